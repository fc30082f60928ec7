"""ks-build: build clips on disk from a class list, with an outcome for every annotation.

`plan` lists the clips; `driver` asks one source after the other (`archive_driver` for archives) at the rate set by `throttle`;
`worker` fetches a clip, has it trimmed (`trim`) and audited (`audit`), and moves it into place; `summary` reports.
"""
