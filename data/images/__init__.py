"""Datasets of images with boxes: COCO, VOC and YOLO files, decoding, cache, augmentation."""

from registry import import_modules

import_modules(__name__, __path__)
