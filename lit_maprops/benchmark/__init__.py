"""A fixed list of cooperative tasks, every sampler on each of them, and a leaderboard.

``benchmark_file`` is the list, ``cells`` what is measured (a task, a learner, a sampler) and what is left out and why,
``turns`` whose turn it is, ``rows`` results as a file that others can add, ``comparisons`` the intervals, ``page`` the
leaderboard. Runs are the processes of ``lit_maprops.sweep``. Nothing here imports torch.
"""
