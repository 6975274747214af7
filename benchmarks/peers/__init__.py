"""How fast is edgeproxy beside its peers, on one machine, in one run, over the same store?

From a question to a verdict: `contenders` starts each registry on one core, `measuring` takes one sample of one row, `running` takes
them in turn, `figures` makes medians, ratios and verdicts of them, `report` and `chart` say it.
"""
