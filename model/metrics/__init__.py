"""Official metrics under their usual names; each file says which script it follows."""

from model.metrics.anls import ANLS
from model.metrics.aokvqa import AOKVQA_CHOICE, AOKVQA_DIRECT
from model.metrics.base import Metric
from model.metrics.caption import CAPTION
from model.metrics.chartqa import CHARTQA_RELAXED
from model.metrics.exact import EXACT_MATCH, OCRVQA
from model.metrics.flickr30k import FLICKR30K_RECALL
from model.metrics.gqa import GQA
from model.metrics.mathvista import MATHVISTA
from model.metrics.mmbench import MMBENCH_CIRCULAR
from model.metrics.mme import MME
from model.metrics.mmmu import MMMU
from model.metrics.multiple_choice import AI2D, MCQ
from model.metrics.ocrbench import OCRBENCH
from model.metrics.pope import POPE
from model.metrics.realworldqa import REALWORLDQA
from model.metrics.refcoco import REFCOCO
from model.metrics.refseg import REFSEG
from model.metrics.scienceqa import SCIENCEQA
from model.metrics.textvqa import TEXTVQA_ACCURACY
from model.metrics.vqa import OKVQA_ACCURACY, VIZWIZ_ACCURACY, VQA_ACCURACY

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        VQA_ACCURACY,
        OKVQA_ACCURACY,
        VIZWIZ_ACCURACY,
        TEXTVQA_ACCURACY,
        AOKVQA_DIRECT,
        AOKVQA_CHOICE,
        GQA,
        ANLS,
        CHARTQA_RELAXED,
        EXACT_MATCH,
        OCRVQA,
        SCIENCEQA,
        AI2D,
        MCQ,
        MMBENCH_CIRCULAR,
        MMMU,
        MATHVISTA,
        REALWORLDQA,
        OCRBENCH,
        POPE,
        MME,
        REFCOCO,
        REFSEG,
        FLICKR30K_RECALL,
        CAPTION,
    )
}
"""Name -> metric; a metric is added with one file and one line here."""

__all__ = ["METRICS", "Metric"]
