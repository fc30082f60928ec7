"""ks-build: from the class list to clips on disk, with an outcome for every annotation.

`plan` lists the clips, `driver` asks one source after the other (`archive_driver` where clips lie in archives) at the pace
of `throttle`; `worker` fetches a clip, has it cut by `trim` and judged by `audit`, and puts it in its place; `summary` tells.
"""
