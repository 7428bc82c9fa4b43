"""What is kept about tokens and people ends: finished batches are purged, and a person's names are erased.

May import what `reports` may, and `reports`. Begin with `purging` (batches) or `erasure` (a person).
"""
