"""Checkpoints: read them safely, map them to our modules, and account for every tensor.

A checkpoint is untrusted: ``.pt`` files are read with ``weights_only``, safetensors hold no code, and
nothing is loaded unless every key and every shape is the model's. Files keep the official layout, so
ours load in the official code and the other way round; inside, two things differ:

* tensors live in the component that uses them (``to_ours`` and ``to_official`` rename them; the
  Fourier frequencies are used by two components and are copied to both);
* the rotary embedding pairs channels half-split instead of interleaved, so the rows of the q and k
  projections of memory attention are permuted once, here.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sam2track.errors import WeightsError
from sam2track.files import written_whole
from sam2track.network.variants import VARIANTS, Network

_FREQUENCIES = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_ROTARY = re.compile(r"memory_attention\.layers\.\d+\.(self|cross)_attention\.[qk]_proj\.(weight|bias)")

# Official prefix or name -> ours, read in both directions. The first match counts; what follows a prefix is kept.
_RENAMES: tuple[tuple[str, str], ...] = (
    ("image_encoder.trunk.patch_embed.proj.", "image_encoder.trunk.patch."),
    ("image_encoder.trunk.pos_embed_window", "image_encoder.trunk.position_window"),
    ("image_encoder.trunk.pos_embed", "image_encoder.trunk.position"),
    ("image_encoder.trunk.blocks.{i}.attn.", "image_encoder.trunk.blocks.{i}.attention."),
    ("image_encoder.trunk.blocks.{i}.proj.", "image_encoder.trunk.blocks.{i}.shortcut."),
    ("image_encoder.trunk.", "image_encoder.trunk."),
    ("image_encoder.neck.convs.0.conv.", "image_encoder.lateral.3."),
    ("image_encoder.neck.convs.1.conv.", "image_encoder.lateral.2."),
    ("image_encoder.neck.convs.2.conv.", "image_encoder.lateral.1."),
    ("image_encoder.neck.convs.3.conv.", "image_encoder.lateral.0."),
    ("sam_mask_decoder.conv_s0.", "image_encoder.project_s4."),
    ("sam_mask_decoder.conv_s1.", "image_encoder.project_s8."),
    ("no_mem_embed", "image_encoder.no_memory"),
    ("no_mem_pos_enc", "image_encoder.no_memory_position"),
    (_FREQUENCIES, "prompt_encoder.frequencies"),
    ("sam_prompt_encoder.not_a_point_embed.weight", "prompt_encoder.labels.0"),
    ("sam_prompt_encoder.point_embeddings.0.weight", "prompt_encoder.labels.1"),
    ("sam_prompt_encoder.point_embeddings.1.weight", "prompt_encoder.labels.2"),
    ("sam_prompt_encoder.point_embeddings.2.weight", "prompt_encoder.labels.3"),
    ("sam_prompt_encoder.point_embeddings.3.weight", "prompt_encoder.labels.4"),
    ("sam_prompt_encoder.no_mask_embed.weight", "prompt_encoder.no_mask"),
    ("sam_prompt_encoder.mask_downscaling.", "prompt_encoder.mask_layers."),
    ("mask_downsample.", "prompt_encoder.mask_patch."),
    ("sam_mask_decoder.obj_score_token.weight", "mask_decoder.object_token"),
    ("sam_mask_decoder.iou_token.weight", "mask_decoder.iou_token"),
    ("sam_mask_decoder.mask_tokens.weight", "mask_decoder.mask_tokens"),
    ("sam_mask_decoder.transformer.layers.{i}.self_attn.", "mask_decoder.layers.{i}.self_attention."),
    ("sam_mask_decoder.transformer.layers.{i}.cross_attn_token_to_image.", "mask_decoder.layers.{i}.token_to_image."),
    ("sam_mask_decoder.transformer.layers.{i}.cross_attn_image_to_token.", "mask_decoder.layers.{i}.image_to_token."),
    ("sam_mask_decoder.transformer.layers.", "mask_decoder.layers."),
    ("sam_mask_decoder.transformer.final_attn_token_to_image.", "mask_decoder.final_attention."),
    ("sam_mask_decoder.transformer.norm_final_attn.", "mask_decoder.final_norm."),
    ("sam_mask_decoder.output_upscaling.0.", "mask_decoder.upscale_s8."),
    ("sam_mask_decoder.output_upscaling.1.", "mask_decoder.norm_s8."),
    ("sam_mask_decoder.output_upscaling.3.", "mask_decoder.upscale_s4."),
    ("sam_mask_decoder.output_hypernetworks_mlps.", "mask_decoder.mask_heads."),
    ("sam_mask_decoder.iou_prediction_head.", "mask_decoder.iou_head."),
    ("sam_mask_decoder.pred_obj_score_head.", "mask_decoder.score_head."),
    ("obj_ptr_proj.", "mask_decoder.pointer_head."),
    ("no_obj_ptr", "mask_decoder.no_object_pointer"),
    ("memory_attention.layers.{i}.self_attn.", "memory_attention.layers.{i}.self_attention."),
    ("memory_attention.layers.{i}.cross_attn_image.", "memory_attention.layers.{i}.cross_attention."),
    ("maskmem_tpos_enc", "memory_attention.slot_code"),
    ("obj_ptr_tpos_proj.", "memory_attention.age_proj."),
    ("memory_attention.", "memory_attention."),
    ("memory_encoder.mask_downsampler.encoder.", "memory_encoder.mask_layers."),
    ("memory_encoder.pix_feat_proj.", "memory_encoder.feature_proj."),
    ("memory_encoder.fuser.layers.{i}.dwconv.", "memory_encoder.fuser.{i}.depthwise."),
    ("memory_encoder.fuser.layers.{i}.pwconv1.", "memory_encoder.fuser.{i}.expand."),
    ("memory_encoder.fuser.layers.{i}.pwconv2.", "memory_encoder.fuser.{i}.reduce."),
    ("memory_encoder.fuser.layers.{i}.gamma", "memory_encoder.fuser.{i}.scale"),
    ("memory_encoder.fuser.layers.", "memory_encoder.fuser."),
    ("memory_encoder.out_proj.", "memory_encoder.out_proj."),
    ("no_obj_embed_spatial", "memory_encoder.no_object"),
)


def load(network: Network, path: Path) -> None:
    """Load a checkpoint in the official layout into ``network`` and put it in inference mode.

    Args:
        network: the model to fill.
        path: ``.pt`` / ``.pth`` holding ``{"model": state_dict}`` (or a bare state dict), or ``.safetensors``.

    Raises:
        WeightsError: the file is missing, empty, truncated, not a checkpoint, or of another model; the
            message names the first tensor that is missing, unexpected or misshapen.
    """
    load_official(network, read(path), str(path))


def load_official(network: Network, tensors: Mapping[str, Tensor], source: str = "state dict") -> None:
    """Load an official-layout state dict into ``network``; see ``load``."""
    expected = official_shapes(network)
    _check(tensors, expected, source)
    if not any(value.is_meta for value in network.parameters()):  # a model of shapes alone takes shapes alone
        _check_numbers(tensors, source)
    network.load_state_dict(to_ours({name: tensors[name].float() for name in expected}), strict=True)
    network.eval()


def save(network: Network, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write ``network`` as safetensors in the official layout, stored as ``dtype``."""
    tensors = to_official({name: value.detach().cpu() for name, value in network.state_dict().items()})
    with written_whole(path) as partial:
        save_file({name: value.to(dtype).contiguous() for name, value in tensors.items()}, partial)


def existing(path: Path) -> Path:
    """``path``, if it is a file. Raises ``WeightsError``."""
    if not path.is_file():
        raise WeightsError(f"weights {path} do not exist; give a .pt or .safetensors file")
    return path


def read(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint without running any code in it."""
    if existing(path).stat().st_size == 0:
        raise WeightsError(f"weights {path} are an empty file; download them again")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"weights {path} are not a whole safetensors file ({error}); get them again") from error
    return _read_pickle(path)


def _read_pickle(path: Path) -> dict[str, Tensor]:
    _check_archive(path)
    try:
        with warnings.catch_warnings():  # torch warns of odd pickles before it refuses them
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(path):
            raise WeightsError(f"weights {path} hold more than tensors, which is refused as unsafe") from error
        raise WeightsError(f"weights {path} are not a PyTorch checkpoint; expected a .pt file of SAM 2") from error
    except Exception as error:  # a forged file makes torch raise whatever it likes
        raise WeightsError(f"weights {path} are damaged or truncated; get them again") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f'weights {path} hold no state dict; expected {{"model": {{name: tensor}}}}')
    return state


def _check_archive(path: Path) -> None:
    """Raise ``WeightsError`` for a zip that would be larger in memory than on disk: torch writes none."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            inflated = sum(entry.file_size for entry in archive.infolist())
    except Exception as error:  # a forged directory makes zipfile raise whatever it likes
        raise WeightsError(f"weights {path} are damaged or truncated; get them again") from error
    if inflated > path.stat().st_size:
        raise WeightsError(f"weights {path} are compressed, which is refused as unsafe; save them again with torch")


def official_shapes(network: Network) -> dict[str, torch.Size]:
    """Official name -> shape of every tensor the model has."""
    return {name: value.shape for name, value in to_official(network.state_dict()).items()}


def to_ours(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official layout -> ours."""
    ours = {_rename(name, _RENAMES): value for name, value in tensors.items()}
    ours = {name: to_half_split(value) if _ROTARY.fullmatch(name) else value for name, value in ours.items()}
    if "prompt_encoder.frequencies" in ours:
        ours["mask_decoder.frequencies"] = ours["prompt_encoder.frequencies"]
    return ours


def to_official(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Ours -> official layout."""
    back = tuple((ours, official) for official, ours in _RENAMES)
    return {
        _rename(name, back): to_interleaved(value) if _ROTARY.fullmatch(name) else value
        for name, value in tensors.items()
        if name != "mask_decoder.frequencies"
    }


def to_half_split(rows: Tensor) -> Tensor:
    """Reorder projection rows so that rotary pairs (0, 1), (2, 3), ... become (0, n/2), (1, n/2 + 1), ..."""
    return torch.cat([rows[0::2], rows[1::2]])


def to_interleaved(rows: Tensor) -> Tensor:
    """Undo ``to_half_split``."""
    return torch.stack(rows.chunk(2), dim=1).flatten(0, 1)


def _rename(name: str, renames: Iterable[tuple[str, str]]) -> str:
    index = re.search(r"\.(\d+)\.", name)
    for before, after in renames:
        old, new = before, after
        if "{i}" in before:
            if index is None:
                continue
            old, new = before.replace("{i}", index[1]), after.replace("{i}", index[1])
        if name == old or (old.endswith(".") and name.startswith(old)):
            return new + name[len(old) :]
    return name


def _check(tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size], source: str) -> None:
    """Raise a ``WeightsError`` that names what is missing, unexpected or misshapen, and whose weights these are."""
    found = {name: torch.Size() if value.is_nested else value.shape for name, value in tensors.items()}
    if found == expected:
        for name, value in tensors.items():
            if value.layout != torch.strided or value.is_quantized or not value.is_floating_point():
                raise _odd(name, value, source)
        return
    owner = _owner(found)
    if owner is not None:
        raise WeightsError(f"weights {source} are those of {owner}, not of the model asked for; use model {owner!r}")
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    misshapen = [name for name in expected if name in found and found[name] != expected[name]]
    faults = [
        f"{len(names)} {fault} (first: {names[0]})"
        for fault, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    if misshapen:
        name = misshapen[0]
        shapes = f"{list(found[name])}, expected {list(expected[name])}"
        faults.append(f"{len(misshapen)} misshapen (first: {name} is {shapes})")
    raise WeightsError(f"weights {source} do not fit the model: {'; '.join(faults)}; check the model's name")


def _check_numbers(tensors: Mapping[str, Tensor], source: str) -> None:
    for name, value in tensors.items():
        if value.is_meta:
            raise _odd(name, value, source)
        if not value.float().isfinite().all():  # of 8 bits, torch cannot tell
            raise WeightsError(f"weights {source} hold numbers that are not finite (first: {name}); get them again")


def _odd(name: str, value: Tensor, source: str) -> WeightsError:
    kind = f"{value.dtype}, {value.layout}, {value.device.type}".replace("torch.", "")
    return WeightsError(f"weights {source} hold {name} as {kind}; expected a plain float tensor")


def _owner(shapes: Mapping[str, torch.Size]) -> str | None:
    """The model whose tensors have exactly these names and shapes, if any."""
    for name, variant in VARIANTS.items():
        with torch.device("meta"):
            if official_shapes(Network(variant)) == shapes:
                return name
    return None
