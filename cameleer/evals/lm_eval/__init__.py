"""Any task of lm-eval through our engines: their prompts and their scoring, our log and intervals.

lm-eval builds a task's requests and is handed a model that asks ours (`model.py`); filters, metrics
and the means over documents and groups are theirs, so that numbers are, too (`told.py`). What is
answered is logged request by request, and not asked again. (lm-eval 0.4: Gao et al.,
doi:10.5281/zenodo.10256836.)
"""
