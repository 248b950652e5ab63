"""What came out: rows, tables, figures. Code stands at this level; below it are data alone.

runs/ holds what runs wrote (ignored by git), reference/ results that the documentation shows, tuning/ the trials that
learning rates were chosen by.
"""
