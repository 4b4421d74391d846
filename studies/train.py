"""Training without a run's folder, for studies that look into the module."""

from collections.abc import Callable

from lightning.pytorch import Trainer

from lit_maprops.data import MultiAgentData
from lit_maprops.module import LitMAPROPS


def train(
    model: LitMAPROPS,
    data: MultiAgentData,
    after: Callable[[LitMAPROPS], None],
    before: Callable[[LitMAPROPS], None] | None = None,
    whole: Callable[[LitMAPROPS], None] | None = None,
) -> None:
    """Train one epoch, ``eval_interval`` target iterations, on the CPU; ``after`` is called after each of them.

    ``before`` is called once, when everything is built and nothing collected; ``whole`` in every iteration, when D is
    whole, its figures are in ``model.row``, and theta has not been updated on it.
    """
    original, update = model.training_step, model._update_targets

    def step(batch: int, batch_idx: int) -> None:
        if before is not None and batch_idx == 0:
            before(model)
        original(batch, batch_idx)
        after(model)

    def look_and_update() -> None:
        if whole is not None:
            whole(model)
        update()

    model.training_step = step  # type: ignore[method-assign]
    model._update_targets = look_and_update  # type: ignore[method-assign]
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
