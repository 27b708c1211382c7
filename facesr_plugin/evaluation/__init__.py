"""Compare folders of restored faces with ground truth: pair files, measure in batches, sum up, report."""
