"""Guidances: what leads the enhancement network from backlit to well-lit images.

base        the interface; a guidance of one's own is one class with its methods
clip_lit    clip-lit: a learned prompt pair                                       CLIP-LIT, section 3.1
            clip-lit-latent: a pair learned in CLIP's latent space                RAVE (ECCV 2024)
rave        rave: the direction from backlit to well-lit images, not learned      RAVE
rivals      adversarial: a discriminator of patches, learned along                a rival in CLIP-LIT's ablations
            none: the identity loss alone                                         a control
registry    all of them by kind, and classes in files of one's own
"""
