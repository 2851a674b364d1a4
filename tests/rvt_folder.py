"""Helper: a folder in the layout of RVT's preprocessing."""

import h5py
import numpy as np

from data.recordings.boxes import BOX_DTYPE

FORM = "stacked_histogram_dt=50_nbins=10"


def write_sequence(path, labels, count=20, channels=20, height=24, width=32, half=False, form=FORM, step_us=50_000):
    """A recording of `count` frames, frame k full of k + 1 at channel 3, that ends each `step_us`. labels: {frame:
    [(x, y, w, h, class), ...]} in pixels of the recording."""
    folder = path / "event_representations_v2" / form
    folder.mkdir(parents=True)
    (path / "labels_v2").mkdir()
    ends = step_us * np.arange(1, count + 1) - 1
    frames = np.zeros((count, channels, height, width), np.uint8)
    frames[:, 3] = np.arange(1, count + 1)[:, None, None]
    with h5py.File(folder / f"event_representations{'_ds2_nearest' if half else ''}.h5", "w") as file:
        file.create_dataset("data", data=frames, chunks=(1, *frames.shape[1:]), compression="gzip")
    np.save(folder / "timestamps_us.npy", ends)
    np.save(folder / "objframe_idx_2_repr_idx.npy", np.array(list(labels)))
    rows = [(ends[k], x, y, w, h, c, i, 1.0) for k, boxes in labels.items() for i, (x, y, w, h, c) in enumerate(boxes)]
    starts = np.cumsum([0, *(len(boxes) for boxes in labels.values())])[:-1]
    np.savez(path / "labels_v2" / "labels.npz", labels=np.array(rows, BOX_DTYPE), objframe_idx_2_label_idx=starts)
    np.save(path / "labels_v2" / "timestamps_us.npy", ends[list(labels)])
    return folder
