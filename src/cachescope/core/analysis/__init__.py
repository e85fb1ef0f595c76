"""The folds, one analysis a file: update(batch), merge(other), result()."""
