"""The official formats that can be read: one file each, one line here."""

from rapidfuzz import process

from catalog.errors import UserError
from pipeline.sources.ade20k import ADE20K
from pipeline.sources.ai2d import AI2D
from pipeline.sources.alpaca import ALPACA, BELLE
from pipeline.sources.aokvqa import AOKVQA
from pipeline.sources.arxivqa import ARXIVQA
from pipeline.sources.as_v2 import AS_V2
from pipeline.sources.base import Source
from pipeline.sources.chartqa import CHARTQA
from pipeline.sources.chat import SHAREGPT, ULTRACHAT
from pipeline.sources.clevr import CLEVR
from pipeline.sources.coco_captions import COCO_CAPTIONS
from pipeline.sources.coco_instances import COCO_INSTANCES, LVIS, OBJECTS365
from pipeline.sources.cocoqa import COCOQA
from pipeline.sources.ctw import CTW
from pipeline.sources.curved import CTW1500, TOTALTEXT
from pipeline.sources.deepform import DEEPFORM
from pipeline.sources.documents import DOCUMENTS
from pipeline.sources.docvqa import DOCVQA
from pipeline.sources.due import DUE
from pipeline.sources.dvqa import DVQA
from pipeline.sources.ferret_ui import FERRET_UI
from pipeline.sources.finetune import LMMS_ENGINE, MINICPM_V, XCOMPOSER, XTUNER
from pipeline.sources.flickr30k import FLICKR30K
from pipeline.sources.flickr30k_entities import FLICKR30K_ENTITIES
from pipeline.sources.fmiqa import FMIQA
from pipeline.sources.fsvqa import FSVQA
from pipeline.sources.geoqa import GEOQA, GEOQA_PLUS, UNIGEO
from pipeline.sources.gqa import GQA
from pipeline.sources.grand import GRAND
from pipeline.sources.grand_f import GRAND_F
from pipeline.sources.grit import GRIT
from pipeline.sources.hf import HF
from pipeline.sources.hub import DOCMATIX, FINEVISION, LLAVA_NEXT, LLAVA_ONEVISION, THE_CAULDRON
from pipeline.sources.icdar2019 import ART, LSVT, RECTS
from pipeline.sources.icdar_txt import ICDAR2015, RCTW17
from pipeline.sources.iconqa import ICONQA
from pipeline.sources.infographicvqa import INFOGRAPHICVQA
from pipeline.sources.interleaved import MMC4, OBELICS
from pipeline.sources.internvl import INTERNVL
from pipeline.sources.json_rows import JSON_ROWS
from pipeline.sources.kleister import KLEISTER_CHARITY, KLEISTER_NDA
from pipeline.sources.kvqa import KVQA
from pipeline.sources.llama_factory import LLAMA_FACTORY
from pipeline.sources.llava import (
    ALLAVA,
    COMVINT,
    LLAVA,
    LLAVA_INSTRUCT,
    LLAVA_MIX665K,
    SHAREGPT4V,
    SVIT,
    UNIMM_CHAT,
)
from pipeline.sources.llavar import LLAVAR
from pipeline.sources.lrv import LRV
from pipeline.sources.m3it import M3IT
from pipeline.sources.mdetr import MDETR
from pipeline.sources.mmc import MMC
from pipeline.sources.ms_swift import MS_SWIFT
from pipeline.sources.multiinstruct import MULTIINSTRUCT
from pipeline.sources.multimodal_ocr import MULTIMODAL_OCR
from pipeline.sources.nlvr import NLVR, NLVR2
from pipeline.sources.ocrvqa import OCRVQA
from pipeline.sources.orca import OPENHERMES, OPENORCA, SLIMORCA
from pipeline.sources.osprey import OSPREY
from pipeline.sources.panoptic import COCO_PANOPTIC
from pipeline.sources.pdf import PDF
from pipeline.sources.psg import PSG
from pipeline.sources.qa_pairs import FIGUREQA, PLOTQA
from pipeline.sources.qwen_vl import QWEN_VL
from pipeline.sources.realcqa import REALCQA
from pipeline.sources.reasonseg import REASONSEG
from pipeline.sources.refer import REFCOCO, REFCOCO_PLUS, REFCOCOG
from pipeline.sources.refexp import GOOGLE_REFEXP, REC_EVAL
from pipeline.sources.scene_parsing import SCENE_PARSING
from pipeline.sources.scienceqa import SCIENCEQA
from pipeline.sources.shikra import SHIKRA
from pipeline.sources.smart101 import SMART101
from pipeline.sources.stvqa import STVQA
from pipeline.sources.synthdog import SYNTHDOG
from pipeline.sources.tabfact import TABFACT
from pipeline.sources.textcaps import TEXTCAPS
from pipeline.sources.textocr import COCOTEXT, TEXTOCR
from pipeline.sources.textocr_gpt4v import TEXTOCR_GPT4V
from pipeline.sources.textvqa import TEXTVQA
from pipeline.sources.tsv import TSV
from pipeline.sources.url_caption import (
    CC3M,
    CC12M,
    COYO,
    LAION,
    LAION_COCO,
    LAION_COCO_OCR,
    SBU,
    WUKONG,
    WUKONG_OCR,
)
from pipeline.sources.vcr import VCR, VCR_QAR
from pipeline.sources.vgqa import VGQA
from pipeline.sources.visdial import VISDIAL
from pipeline.sources.visual7w import VISUAL7W
from pipeline.sources.visual_genome import VG_OBJECTS, VG_REGIONS, VG_RELATIONSHIPS
from pipeline.sources.visualmrc import VISUALMRC
from pipeline.sources.vizwiz import VIZWIZ
from pipeline.sources.vqav2 import OKVQA, VQA_V1_MC, VQAV2
from pipeline.sources.webdataset import WEBDATASET
from pipeline.sources.wikitablequestions import WIKITABLEQUESTIONS
from pipeline.sources.wildreceipt import WILDRECEIPT

SOURCES: tuple[Source, ...] = (
    VQAV2,
    VQA_V1_MC,
    GQA,
    OKVQA,
    AOKVQA,
    SCIENCEQA,
    VGQA,
    VIZWIZ,
    VISUAL7W,
    COCOQA,
    CLEVR,
    ICONQA,
    FMIQA,
    KVQA,
    FSVQA,
    VISDIAL,
    NLVR,
    NLVR2,
    GEOQA,
    GEOQA_PLUS,
    UNIGEO,
    SMART101,
    COMVINT,
    LRV,
    M3IT,
    VCR,
    VCR_QAR,
    COCO_CAPTIONS,
    FLICKR30K,
    TEXTCAPS,
    LAION,
    LAION_COCO,
    LAION_COCO_OCR,
    COYO,
    WUKONG,
    WUKONG_OCR,
    CC3M,
    CC12M,
    SBU,
    TEXTVQA,
    DOCVQA,
    INFOGRAPHICVQA,
    OCRVQA,
    STVQA,
    VISUALMRC,
    CHARTQA,
    AI2D,
    ARXIVQA,
    MMC,
    DVQA,
    FIGUREQA,
    PLOTQA,
    REALCQA,
    TEXTOCR,
    COCOTEXT,
    TEXTOCR_GPT4V,
    SYNTHDOG,
    LSVT,
    ART,
    RECTS,
    RCTW17,
    ICDAR2015,
    CTW,
    CTW1500,
    TOTALTEXT,
    WILDRECEIPT,
    DEEPFORM,
    KLEISTER_CHARITY,
    KLEISTER_NDA,
    TABFACT,
    WIKITABLEQUESTIONS,
    PDF,
    DUE,
    MULTIMODAL_OCR,
    REFCOCO,
    REFCOCO_PLUS,
    REFCOCOG,
    GOOGLE_REFEXP,
    REC_EVAL,
    MDETR,
    FLICKR30K_ENTITIES,
    VG_REGIONS,
    VG_OBJECTS,
    VG_RELATIONSHIPS,
    COCO_INSTANCES,
    COCO_PANOPTIC,
    LVIS,
    OBJECTS365,
    PSG,
    ADE20K,
    SCENE_PARSING,
    GRIT,
    GRAND,
    GRAND_F,
    AS_V2,
    SHIKRA,
    OSPREY,
    FERRET_UI,
    REASONSEG,
    MULTIINSTRUCT,
    LLAVA,
    LLAVA_INSTRUCT,
    LLAVA_MIX665K,
    SHAREGPT4V,
    ALLAVA,
    SVIT,
    UNIMM_CHAT,
    LLAVAR,
    LLAVA_NEXT,
    LLAVA_ONEVISION,
    THE_CAULDRON,
    DOCMATIX,
    FINEVISION,
    MMC4,
    OBELICS,
    INTERNVL,
    QWEN_VL,
    MS_SWIFT,
    LLAMA_FACTORY,
    MINICPM_V,
    XCOMPOSER,
    XTUNER,
    LMMS_ENGINE,
    SHAREGPT,
    ULTRACHAT,
    ALPACA,
    BELLE,
    OPENORCA,
    SLIMORCA,
    OPENHERMES,
    TSV,
    HF,
    WEBDATASET,
    JSON_ROWS,
    DOCUMENTS,
)


def find(name: str) -> Source:
    """Return the source of a name.

    Raises:
        UserError: there is none; the message has the nearest name.
    """
    names = {source.name: source for source in SOURCES}
    if name in names:
        return names[name]
    nearest = process.extractOne(name.lower(), list(names))[0]
    raise UserError(
        f"no source {name!r}", fix=f"did you mean {nearest!r}? `cuvee sources` lists all"
    )


__all__ = ["SOURCES", "Source", "find"]
