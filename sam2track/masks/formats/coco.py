"""COCO instances JSON, one video in a file: an image a frame, an annotation for each object that is seen on it.

What COCO has no key for goes into keys that its readers ignore: ``track_id`` (the object id) and ``score`` of an
annotation, ``frame_index`` and ``time`` of an image, ``sam2track`` of the file. So a file written here is read
back without loss; one written elsewhere has an object for each ``track_id``, or for each annotation without one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from sam2track.data import FrameResult, Mask, Prediction
from sam2track.errors import MaskletError
from sam2track.files import natural
from sam2track.masks import rle
from sam2track.masks.formats.files import Untrusted, read_json, text_written_whole, write_object
from sam2track.masks.formats.tracks import Masklets, Seen, Tracks, follow
from sam2track.masks.lines import Exact, MaskletHeader, readable
from sam2track.masks.regions import bounding_box

DEFAULT_RATE = Fraction(24)
UNSEEN = "COCO lists an object only where it is seen: elsewhere, once seen, it reads back as not visible"

Side = Annotated[int, Field(ge=1, le=2**15)]
Index = Annotated[int, Field(ge=0, lt=2**31)]
ObjectId = Annotated[int, Field(ge=0, lt=2**63)]
Score = Annotated[float, Field(ge=0, le=1)]


class CountedRle(Untrusted):
    """An RLE with compressed counts, as text, or with the runs themselves."""

    size: tuple[int, int]
    counts: str | list[int]


Segmentation = CountedRle | list[list[float]]


class _Image(Untrusted):
    id: int
    file_name: str = ""
    height: Side
    width: Side
    frame_index: Index | None = None
    time: Exact | None = None


class _Annotation(Untrusted):
    id: int
    image_id: int
    segmentation: Segmentation
    track_id: ObjectId | None = None
    score: Score = 1.0
    attributes: dict[str, Any] = Field(default_factory=dict)

    @property
    def object_id(self) -> int:
        """The track, where one is given; CVAT gives it among the attributes."""
        given = self.attributes.get("track_id") if self.track_id is None else self.track_id
        return given if isinstance(given, int) and 0 <= given < 2**63 else self.id


class Origin(Untrusted):
    """What a masklet file says of itself, kept in the JSON under ``sam2track``."""

    source: str | None = None
    model: str | None = None
    rate: Exact | None = None


class _CocoFile(Untrusted):
    images: list[_Image]
    annotations: list[_Annotation]
    sam2track: Origin = Origin()


def read_coco(path: Path) -> Tracks:
    """Masklets of a COCO JSON. Images without ``frame_index`` are frames in the order of the numbers in their names.

    Raises:
        MaskletError: what is wrong with it; on iterating, for a damaged mask.
    """
    content = read_json(path, _CocoFile, "a COCO JSON")
    if not content.images:
        raise MaskletError(f"{path} has no images; expected one for each frame")
    size = content.images[0].height, content.images[0].width
    odd = [image for image in content.images if (image.height, image.width) != size]
    if odd:
        raise MaskletError(f"{path}: image {odd[0].id} has another size than the first; expected the frames of a video")
    images = _in_order(path, content.images)
    rate = content.sam2track.rate or DEFAULT_RATE
    annotations: dict[int, list[_Annotation]] = {image.id: [] for image in content.images}
    for annotation in content.annotations:
        if annotation.image_id not in annotations:
            raise MaskletError(
                f"{path}: annotation {annotation.id} is of image {annotation.image_id}, which is missing"
            )
        annotations[annotation.image_id].append(annotation)

    def rows() -> Iterator[tuple[int, Fraction, Seen]]:
        for index, image in images:
            time = index / rate if image.time is None else image.time
            yield index, time, _seen(path, annotations[image.id], size)

    return Tracks(as_header(content.sam2track, size), lambda: follow(rows(), size))


def write_coco(path: Path, masklets: Masklets) -> list[str]:
    """Write COCO instances; returns what is lost."""
    _write(path, masklets, "{:05d}.jpg", per_object=False)
    return [UNSEEN]


def write_cvat(path: Path, masklets: Masklets) -> list[str]:
    """Write COCO instances as CVAT imports them into a task made from the video; returns what is lost.

    CVAT finds the frames of a video by its own names for them, and has no tracks of masks: each object gets
    a label of its own, which the task needs too.
    """
    labels = _write(path, masklets, "frame_{:06d}", per_object=True)
    return [f"the CVAT task needs the labels: {', '.join(labels) or 'none'}", UNSEEN]


def as_mask(segmentation: Segmentation, size: tuple[int, int]) -> Mask:
    """The mask of a segmentation in a picture of ``size`` (height, width).

    Raises:
        MaskletError: it is damaged, or of another size.
    """
    if isinstance(segmentation, list):
        return rle.decode_polygons(segmentation, size)
    if segmentation.size != size:
        raise MaskletError(f"mask is {segmentation.size[1]}x{segmentation.size[0]} but the frame {size[1]}x{size[0]}")
    if isinstance(segmentation.counts, str):
        return rle.decode({"size": list(size), "counts": segmentation.counts})
    return rle.decode_runs(segmentation.counts, size)


def as_header(origin: Origin, size: tuple[int, int]) -> MaskletHeader:
    """The header of masklets of ``size`` (height, width) of that origin."""
    return MaskletHeader(source=origin.source, model=origin.model, width=size[1], height=size[0], rate=origin.rate)


def as_origin(header: MaskletHeader) -> dict[str, Any]:
    """What a JSON keeps of a masklet file's header."""
    return Origin(source=header.source, model=header.model, rate=header.rate).model_dump(mode="json")


def xywh(prediction: Prediction) -> list[float]:
    """The box of a mask that is not empty as COCO writes it."""
    x0, y0, x1, y1 = bounding_box(prediction.mask) or (0.0, 0.0, 0.0, 0.0)
    return [x0, y0, x1 - x0, y1 - y0]


def _in_order(path: Path, images: Iterable[_Image]) -> list[tuple[int, _Image]]:
    """Frame index -> image, in the order of frames."""
    images = list(images)
    if all(image.frame_index is None for image in images):
        ordered = sorted(images, key=lambda image: (natural(image.file_name), image.file_name, image.id))
        return list(enumerate(ordered))
    indexed = sorted(((image.frame_index or 0, image) for image in images), key=lambda pair: pair[0])
    indices = [index for index, _ in indexed]
    if len(set(indices)) < len(indices):
        raise MaskletError(f"{path}: several images have the same frame_index; expected one image a frame")
    return indexed


def _seen(path: Path, annotations: Iterable[_Annotation], size: tuple[int, int]) -> dict[int, tuple[Mask, float]]:
    seen: dict[int, tuple[Mask, float]] = {}
    for annotation in annotations:
        try:
            mask = as_mask(annotation.segmentation, size)
        except MaskletError as error:
            raise MaskletError(f"{path}: annotation {annotation.id}: {error}") from error
        i = annotation.object_id
        seen[i] = (mask | seen[i][0] if i in seen else mask, annotation.score)
    return seen


def _write(path: Path, masklets: Masklets, name: str, *, per_object: bool) -> list[str]:
    """Write the file, annotations as they come; returns the names of its categories."""
    header = masklets.header
    images: list[dict[str, Any]] = []
    names: dict[int, str] = {} if per_object else {1: "object"}

    def annotations() -> Iterator[dict[str, Any]]:
        count = 0
        for result in masklets:
            images.append(_image(len(images) + 1, result, name))
            for i, seen in result.objects.items():
                category = i + 1 if per_object else 1
                names.setdefault(category, f"object {i}")
                if seen.mask.any():
                    count += 1
                    yield _annotation(count, len(images), i, seen, category)

    def rest() -> Iterator[tuple[str, Any]]:
        yield "images", images
        yield "categories", [{"id": number, "name": names[number], "supercategory": ""} for number in sorted(names)]
        yield "licenses", []
        yield "info", {"description": header.source or readable(path.stem)}
        yield "sam2track", as_origin(header)

    with text_written_whole(path) as file:
        write_object(file, {"annotations": annotations()}, rest())
    return [names[number] for number in sorted(names)]


def _image(number: int, result: FrameResult, name: str) -> dict[str, Any]:
    """An image of COCO; ids count from 1, since some readers take 0 for none."""
    return {
        "id": number,
        "file_name": name.format(result.index),
        "height": result.size[0],
        "width": result.size[1],
        "frame_index": result.index,
        "time": str(result.time),
    }


def _annotation(number: int, image: int, object_id: int, seen: Prediction, category: int) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "track_id": object_id,
        "score": seen.score,
        "iscrowd": 0,
        "area": int(seen.mask.sum()),
        "bbox": xywh(seen),
        "segmentation": rle.encode(seen.mask),
    }
