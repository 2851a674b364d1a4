"""Samples as a data set makes them: the change is drawn, then applied to the images it asks for."""


def sampled(augment, read, index, count, rng, epochs_left=None):
    """The sample of image `index` of `count`; read: index -> (image, boxes, labels)."""
    change = augment.draw(index, count, rng, epochs_left)
    return augment(change, [read(k) for k in change.indices])


def applied(augment, image, boxes, labels, rng):
    """The sample of one image alone."""
    return sampled(augment, lambda _: (image, boxes, labels), 0, 1, rng)
