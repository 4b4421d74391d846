"""The TensorDict keys that environments, policies, buffer and learners share.

Dimension names: ``R`` num_seeds, ``E`` num_envs per seed, ``A`` n_agents, ``N`` n_actions, ``O`` observation_dim,
``S`` state_dim, ``D`` action_dim. Where two shapes stand, the second is that of tasks with continuous actions. A
collected batch adds time: the buffer holds ``[R, T, E, ...]`` in time order and hands it to updates flattened to
``[R, B, ...]``. The key layout is TorchRL's multi-agent convention.

| key | shape, dtype | meaning (unit) |
|---|---|---|
| ``OBSERVATION`` | [R, E, A, O] | local observation of each agent (f32 or u8, by task) |
| ``STATE`` | [R, E, S] | global state: input of the adjustment and central critic |
| ``STATE_INDEX`` | [R, E, 1] i64 | number of the state, for environments that can number them |
| ``ACTION`` | [R, E, A] i64 | joint action as it was drawn: |
| | [R, E, A, D] f32 | u, which ``TaskEnv`` bounds; padded components are 0 |
| ``PARAMETERS`` | [R, E, A, N] f32 | log pi_theta_i of every action at collection (nats); -inf where masked |
| | [R, E, A, 2 D] f32 | means of u_i, then its log standard deviations |
| ``COLLECTED_PARAMETERS`` | as ``PARAMETERS`` | the same, kept from collection where D has a history |
| ``LOG_PROB`` | [R, E, A] f32 | log pi_theta_i of the action: PPO's denominator (nats) |
| ``TARGET_LOG_PROB`` | [R, E] f32 | log pi_theta of the joint action (nats) |
| ``BEHAVIOR_LOG_PROB`` | [R, E] f32 | log pi_phi of the joint action (nats) |
| ``BEHAVIOR_KL`` | [R, E] f32 | KL(pi_theta, pi_phi) in the state (nats), see ``Choice`` |
| ``REWARD`` (under ``"next"``) | [R, E, A, 1] f32 | reward of each agent |
| ``DONE`` (under ``"next"``) | [R, E, 1] bool | episode over |
| ``TERMINATED``, ``TRUNCATED`` (likewise) | [R, E, 1] bool | by the task's rules; by the time limit |
| ``END`` | [R, E, A] u8 | who is there, or how its own episode has ended (``envs.ends``), where agents may leave |
| ``ACTION_MASK`` | [R, E, A, N] bool | which actions are legal, of tasks where that depends on the state |
| ``MEMORY`` | [R, E, A, H] f32 | what every agent's policy remembers of the episode before the step, if it does |
| ``CRITIC_MEMORY`` | [R, E, C, H] f32 | what the critic does: C is A, or 1 of a central one |
| ``SUCCESS`` (under ``"next"``) | [R, E, 1] bool | the task counts the episode that this step ends as solved |
"""

AGENTS = "agents"
OBSERVATION = (AGENTS, "observation")
STATE = "state"
STATE_INDEX = "state_index"
ACTION = (AGENTS, "action")
PARAMETERS = (AGENTS, "parameters")
COLLECTED_PARAMETERS = (AGENTS, "collected_parameters")
LOG_PROB = (AGENTS, "log_prob")
TARGET_LOG_PROB = "target_log_prob"
BEHAVIOR_LOG_PROB = "behavior_log_prob"
BEHAVIOR_KL = "behavior_kl"
REWARD = (AGENTS, "reward")
DONE = "done"
TERMINATED = "terminated"
TRUNCATED = "truncated"
SUCCESS = "success"
END = (AGENTS, "end")
ACTION_MASK = (AGENTS, "action_mask")
MEMORY = (AGENTS, "memory")
CRITIC_MEMORY = "critic_memory"

# Written by a learner's update, read by TorchRL's loss.
VALUE = (AGENTS, "state_value")
VALUE_TARGET = (AGENTS, "value_target")
ADVANTAGE = (AGENTS, "advantage")
WEIGHT = (AGENTS, "weight")  # see ``envs.ends.weights``
BEGINS = "begins"  # of sequences: an episode begins with this step, [R, B] bool
BEFORE = "before"  # likewise: number of the sequence before this step's, negative if there is none, [R, B] int64
