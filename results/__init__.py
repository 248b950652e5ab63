"""What came out: rows, tables, figures. Code stands at this level, results of runs in runs/ (ignored by git)."""
