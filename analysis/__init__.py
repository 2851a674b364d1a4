"""What layers see and emit, drawings of detections, plots of evaluations."""
