"""What happened: hooks, state, sampling, sizing, folds and results. Knows no cache library and no output."""
