"""Data-parallel training whose results equal those of a single process.

    with process_group.start(device) as world:
        check_equal({"data": fingerprint, "weights": digest(model)})
        feature_ND = gather(encoder(slice_BCTHW))   # of every rank
        loss(feature_ND).backward()                 # of the whole batch, on every rank
        average_gradients(model.parameters())

Why this is exact: in the backward pass, `gather` returns to each rank the gradient of *all* ranks' losses with respect to its
rows. The ranks' gradients therefore sum to the gradient of the sum of the losses, and average to that of their mean. Each rank
computes the same loss as a single process would, so the average equals its gradient, for parameters before and after `gather`
and for unequal slices. A loss that a rank computes from its own rows only gets weight 1 / W in the mean, however many rows it
has, so gather first.

DistributedDataParallel also averages. It would overlap communication with the backward pass (118 MB a step for AVCL's two R3D),
at the price of hooks, a search for unused parameters and other names in checkpoints.

Processes exchange tensors and JSON, never pickles. All functions here must be called by all ranks in the same order. Shape
suffixes: N rows of all ranks, B of this one, D feature channels, C channels, W ranks.
"""
