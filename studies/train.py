"""Training without a run's folder, for studies that look into the module."""

from collections.abc import Callable

from lightning.pytorch import Trainer

from lit_maprops.data import MultiAgentData
from lit_maprops.module import LitMAPROPS


def train(model: LitMAPROPS, data: MultiAgentData, after: Callable[[LitMAPROPS], None]) -> None:
    """Train one epoch, ``eval_interval`` target iterations, on the CPU; ``after`` is called after each of them."""
    original = model.training_step

    def step(batch: int, batch_idx: int) -> None:
        original(batch, batch_idx)
        after(model)

    model.training_step = step  # type: ignore[method-assign]
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
