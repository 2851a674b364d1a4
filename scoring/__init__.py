"""Average precision (AP) of detections against ground truth, both as COCO dicts, by named protocols."""
