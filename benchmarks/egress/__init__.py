"""The egress-cost harness: what a month of a registry's traffic costs, counted by a replay and priced with dated price files.

From a workload to a bill: `workloads` reads requests, `plan` finds what must exist before them, `replay` sends them through a running
registry, `counting` counts at the sockets of registry and store, `pricing` prices the counts, `report` says it.
"""
