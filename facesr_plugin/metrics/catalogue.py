"""The metrics by short names, with their protocols: what ``facesr eval --metrics`` takes, in the order of a report."""

from __future__ import annotations

from typing import Any, NamedTuple


class Protocol(NamedTuple):
    """One way to measure.

    Attributes:
        section: As an entry of ``val.metrics``: ``type`` is the registered function, the rest are its options.
        summary: What is measured, in a line.
        better: ``higher`` or ``lower``.
        unit: Of the value, empty for a plain number.
        digits: Behind the decimal point in tables.
    """

    section: dict[str, Any]
    summary: str
    better: str = "higher"
    unit: str = ""
    digits: int = 4


def _psnr(function: str, summary: str, **options: Any) -> Protocol:
    return Protocol({"type": function, **options}, summary, unit="dB", digits=2)


def _plain(function: str, summary: str, better: str = "higher", **options: Any) -> Protocol:
    return Protocol({"type": function, **options}, summary, better)


PROTOCOLS: dict[str, Protocol] = {
    "psnr_rgb": _psnr("calculate_psnr", "BasicSR: all channels, no border left out", crop_border=0),
    "psnr_y": _psnr("calculate_psnr", "BasicSR: luma, no border left out", crop_border=0, test_y_channel=True),
    "ssim_rgb": _plain("calculate_ssim", "BasicSR: mean over the channels, no border left out", crop_border=0),
    "ssim_y": _plain("calculate_ssim", "BasicSR: luma, no border left out", crop_border=0, test_y_channel=True),
    "ms_ssim": _plain("calculate_progressive_ms_ssim", "five scales, all channels, textbook form", form="textbook"),
    "sparnet_psnr": _psnr("calculate_sparnet_psnr", "SPARNet: luma truncated to 8 bits"),
    "sparnet_ssim": _plain("calculate_sparnet_ssim", "SPARNet: luma truncated to 8 bits"),
    "dic_psnr": _psnr("calculate_dic_psnr", "DIC: luma rounded to 8 bits, without a border of 8 pixels"),
    "dic_ssim": _plain("calculate_dic_ssim", "DIC: as dic_psnr, of 256 - Y as released"),
    "progressive_psnr": _psnr("calculate_progressive_psnr", "Progressive FSR: all channels, per image"),
    "progressive_ssim": _plain("calculate_progressive_ssim", "Progressive FSR: mean over the channels"),
    "progressive_ms_ssim": _plain("calculate_progressive_ms_ssim", "Progressive FSR: with its power of the last scale"),
    "jasrnet_psnr": _psnr("calculate_jasrnet_psnr", "JASRNet: luma, without a border of 8 pixels"),
    "jasrnet_ssim": _plain("calculate_jasrnet_ssim", "JASRNet: as jasrnet_psnr, luma with the usual offset"),
    "jasrnet_box_psnr": _psnr("calculate_jasrnet_box_psnr", "JASRNet as released: inside the box about the landmarks"),
    "jasrnet_box_ssim": _plain(
        "calculate_jasrnet_box_ssim", "JASRNet as released: inside the box, with its offset of luma", form="official"
    ),
    "lpips_alex": _plain("calculate_lpips", "LPIPS 0.1 with AlexNet, whole image, own size", "lower", net="alex"),
    "lpips_vgg": _plain("calculate_lpips", "LPIPS 0.1 with VGG16, whole image, own size", "lower", net="vgg"),
    "niqe": _plain("calculate_face_niqe", "NIQE of the luma (BasicSR, MATLAB), no border left out", "lower"),
    "fid": Protocol(
        {"type": "calculate_fid"}, "FID with pytorch-fid's InceptionV3, over all faces", better="lower", digits=2
    ),
    "identity": _plain("calculate_identity_similarity", "cosine of ArcFace embeddings (IR-SE50), whole images"),
    "identity_aligned": _plain(
        "calculate_aligned_identity_similarity", "cosine of ArcFace embeddings (IR-SE50), cut out by the landmarks"
    ),
    "nme_inter_ocular": _plain(
        "calculate_nme", "mean error by the distance of the outer eye corners", "lower", normaliser="inter_ocular"
    ),
    "nme_inter_pupil": _plain(
        "calculate_nme", "mean error by the distance of the eyes' centres", "lower", normaliser="inter_pupil"
    ),
    "nme_box": _plain("calculate_nme", "mean error by the root of the box's area", "lower", normaliser="box"),
    "dic_nrmse_width": _plain(
        "calculate_nrmse", "DIC: root mean square error by the width of the points", "lower", normaliser="width"
    ),
    "dic_nrmse_eye_outer_width": _plain(
        "calculate_nrmse",
        "DIC: the same by an x distance of eye points",
        "lower",
        normaliser="dic_eye_outer_width",
    ),
    "dic_nrmse_eye_dist": _plain(
        "calculate_nrmse", "DIC: the same by the x distance of the eyes", "lower", normaliser="dic_eye_dist"
    ),
    "auc_inter_ocular": _plain(
        "calculate_landmark_auc", "area under the error's curve up to 0.08", normaliser="inter_ocular"
    ),
    "failure_inter_ocular": _plain(
        "calculate_landmark_failure_rate", "faces with an error of 0.08 or more", "lower", normaliser="inter_ocular"
    ),
}
_BETTER = {protocol.section["type"]: protocol.better for protocol in PROTOCOLS.values()} | {"calculate_niqe": "lower"}


def better_of(function: str) -> str:
    """Return ``higher`` or ``lower``, what is better of a registered metric; ``higher`` of an unknown one."""
    return _BETTER.get(function, "higher")
