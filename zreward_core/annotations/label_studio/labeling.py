"""Labelling config and tasks of a Label Studio project that shows one image per task."""

from xml.etree import ElementTree

from zreward_core.rubric import Dimension, Rubric


def labeling_config(rubric: Rubric) -> str:
    """Label Studio labelling config (XML): prompt, image, one choice per dimension.

    The level texts of the rubric are the hints of the choices.
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Text", name="prompt", value="$prompt")
    ElementTree.SubElement(view, "Image", name="image", value="$image", zoom="true")
    for dimension in rubric.dimensions:
        _add_choices(view, dimension, rubric.levels)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _add_choices(view: ElementTree.Element, dimension: Dimension, levels: list[float]) -> None:
    title = f"{dimension.title}: {dimension.question}"
    ElementTree.SubElement(view, "Header", value=title, size="5")
    choices = ElementTree.SubElement(
        view,
        "Choices",
        name=dimension.name,
        toName="image",
        choice="single",
        showInline="true",
        required="true",
        requiredMessage=f"Please judge: {dimension.title}",
    )
    for level in levels:
        choice = ElementTree.SubElement(choices, "Choice", value=choice_of(level))
        if level in dimension.levels:
            choice.set("hint", dimension.levels[level])


def choice_of(level: float) -> str:
    """The choice of a level: "3.5", "4"."""
    return f"{level:g}"


def task_data(prompt: str, image_id: str, image_prefix: str) -> dict[str, str]:
    """A task's data; the image's file name is its image id."""
    return {"prompt": prompt, "image": f"{image_prefix}{image_id}.png"}
