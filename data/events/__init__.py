"""Event detection datasets: Gen1, 1Mpx, N-Caltech101, RVT; windows of time, label rules, event input, augmentation."""

from registry import import_modules

import_modules(__name__, __path__)
