"""Runs a W&B sweep file here or on a cluster: no account, the same files, the same proposals.

``command`` is the command line, ``sweep_file`` what the user wrote, ``proposals`` the search (W&B's own package),
``journal`` what survives a kill, ``leases`` who does which run (``guard`` keeps them), ``processes`` one run as a
process, ``results`` what a run reports, ``scheduler`` the loop, ``progress`` what the user sees of it. ``launched``
waits for runs that ``slurm`` or ``ray_tasks`` queue.
"""
