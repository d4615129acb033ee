"""Published results of denoisers.

PSNR in dB by folder of pictures, method, and level of the noise in 255ths (0 for noise
that is in the files). Added noise is neither clipped nor rounded, pictures are whole,
and the output is clipped to [0, 1].
"""


def _levels(text: str) -> dict[float, float]:
    """The figures at 15, 25 and 50, separated by "/"."""
    return dict(zip((15.0, 25.0, 50.0), map(float, text.split("/")), strict=True))


_BM3D = "BM3D (Dabov et al. 2007)"
_WNNM = "WNNM (Gu et al. 2014)"
_TNRD = "TNRD, 27 k parameters, Train400 (Chen and Pock 2017)"
_DNCNN = "DnCNN-S, 0.56 M parameters, Train400 (Zhang et al. 2017)"
_FFDNET = "FFDNet, 0.49 M parameters, BSD + WED + ImageNet (Zhang et al. 2018)"
_DRUNET = "DRUNet, 32.6 M parameters, 8,694 pictures (Zhang et al. 2021)"
_SWINIR = "SwinIR, 11.5 M parameters, 8,694 pictures (Liang et al. 2021)"
_CBM3D = "CBM3D (Dabov et al. 2007)"
_CDNCNN = "CDnCNN (Zhang et al. 2017)"

PUBLISHED: dict[str, dict[str, dict[float, float]]] = {
    "Set12": {
        _BM3D: _levels("32.37/29.97/26.72"),
        _WNNM: _levels("32.70/30.28/27.05"),
        _DNCNN: _levels("32.86/30.44/27.18"),
        _FFDNET: _levels("32.75/30.43/27.32"),
        _DRUNET: _levels("33.25/30.94/27.90"),
        _SWINIR: _levels("33.36/31.01/27.91"),
    },
    "BSD68": {
        _BM3D: _levels("31.08/28.57/25.60"),
        _WNNM: _levels("31.37/28.83/25.87"),
        _TNRD: _levels("31.42/28.92/25.97"),
        _DNCNN: _levels("31.73/29.23/26.23"),
        _FFDNET: _levels("31.63/29.19/26.29"),
        _DRUNET: _levels("31.91/29.48/26.59"),
        _SWINIR: _levels("31.97/29.50/26.58"),
        "Noise2Void, without clean pictures (Krull et al. 2019)": {25.0: 27.71},
        "the same, notebook of its authors": {25.0: 27.81},
        "Noise2Noise, without clean pictures (Krull et al. 2019)": {25.0: 28.86},
        "the network of Noise2Void, with clean pictures": {25.0: 29.06},
    },
    "CBSD68": {
        _CBM3D: _levels("33.52/30.71/27.38"),
        _CDNCNN: _levels("33.90/31.24/27.95"),
        _FFDNET: _levels("33.87/31.21/27.96"),
        _DRUNET: _levels("34.30/31.69/28.51"),
    },
    "Kodak24": {
        _CBM3D: _levels("34.28/31.68/28.46"),
        _CDNCNN: _levels("34.60/32.14/28.95"),
        _FFDNET: _levels("34.63/32.13/28.98"),
        _DRUNET: _levels("35.31/32.89/29.86"),
    },
    "CC15": {
        "CBM3D (Dabov et al. 2007)": {0.0: 35.19},
        "MCWNNM (Xu et al. 2017)": {0.0: 37.70},
        "DnCNN (Zhang et al. 2017)": {0.0: 33.86},
    },
}
