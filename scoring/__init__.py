"""Average precision: ground truth and detections as COCO dicts in, one protocol, its AP out. No training code."""
