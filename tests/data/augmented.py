"""Helper: augmented samples, as a dataset makes them: draw the parameters, then apply them to the images they name."""


def sampled(augment, read, index, count, rng, epochs_left=None):
    """The sample of image `index` of `count`; read: index -> (image, boxes, labels)."""
    change = augment.draw(index, count, rng, epochs_left)
    return augment(change, [read(k) for k in change.indices])


def applied(augment, image, boxes, labels, rng):
    """The sample of one image alone."""
    return sampled(augment, lambda _: (image, boxes, labels), 0, 1, rng)
