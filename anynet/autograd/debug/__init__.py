"""Tools for looking at a computation: the first NaN, where the time goes, gradients against finite differences."""
