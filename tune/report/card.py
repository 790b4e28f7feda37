"""The model's card."""

from tune import yaml_file
from tune.experiment import versions, write_text
from tune.report.section import in_unicode, load_template
from tune.spec import RECORD
from tune.summary import Summary
from tune.trainings import validation_metric

_CLASSES, _WORST = 20, 10  # a card shows every class of so many; of more, the worst


def write_card(summary: Summary) -> None:
    """Writes the model's README.md, from what is known of the finished experiment."""
    record, _ = yaml_file.read(summary.directory.spec)
    epoch, value = summary.best
    classes = list(summary.worst_first.items())
    card = load_template("card.md.j2").render(
        summary=summary,
        experiment=summary.experiment,
        epoch=epoch,
        value=value,
        classes=classes,
        card_classes=classes if len(classes) <= _CLASSES else classes[:_WORST],
        provenance=record[RECORD],
        versions=versions(),
        epochs=sum(trial.trained for trial in summary.trials),
        front=summary.front,
        validation_metric=validation_metric(summary.experiment.search.metric),
    )
    write_text(summary.directory.model / "README.md", in_unicode(card))
