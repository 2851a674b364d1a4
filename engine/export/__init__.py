"""Export of trained detectors, one file per format: `write_FORMAT(run, out, options)` writes the file `out`."""
