"""ks-shard: pack clips on disk into WebDataset shards.

`job` determines the samples, `resume` finds existing shards; `driver` has workers encode clips (`encode_sample`) and writes
shards; `verify` checks a set, and `upload` sends it.
"""
