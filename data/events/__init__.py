"""Datasets of event recordings with boxes: Gen1, 1Mpx, N-Caltech101, RVT; windows, labels, augmentation."""

from registry import import_modules

import_modules(__name__, __path__)
