"""Ranks that learn together exactly what one process would learn alone.

    with process_group.start(device) as world:
        check_equal({"data": fingerprint, "weights": digest(model)})
        feature_ND = gather(encoder(slice_BCTHW))   # of every rank
        loss(feature_ND).backward()                 # of the whole batch, on every rank
        average_gradients(model.parameters())

Why this is exact: on the way back `gather` gives a rank what the losses of *all* ranks ask of its rows, so the ranks'
gradients sum to that of the sum of the ranks' losses, and average to that of their mean. Each of these losses is the
one process's, and so is the average: for parameters before and behind `gather`, and however unequal the slices. A loss
that a rank computes from its own rows alone counts 1 / W in that mean, however many rows it has: gather first.

DistributedDataParallel averages too. It would hide the sending behind the backward pass (118 MB a step for AVCL's two
R3D), at the price of hooks, a search for unused parameters and other names in checkpoints.

Between processes go tensors and JSON, never a pickle. Every function here is called by all ranks, in the same order.
Shape suffixes: N rows of all ranks, B of this one, D feature channels, C channels, W ranks.
"""
