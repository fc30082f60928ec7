"""ks-shard: from clips on disk to WebDataset tars.

`job` says what is to be packed, `resume` what is there already; `driver` hands clips to workers, which make samples of them
(`encode_sample`), and writes shards; `verify` checks a set, and `upload` sends it.
"""
