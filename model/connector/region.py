"""Low-resolution features as queries: each asks the high-resolution patches of its own region.

TokenPacker, https://arxiv.org/abs/2407.02392, section 3.2; the same idea as patch info mining of
Mini-Gemini, https://arxiv.org/abs/2403.18814, section 3.2. The low resolution is the regions' mean.
"""

from torch import Tensor, nn

from model.connector.attention import Attention
from model.connector.config import Region
from model.connector.merge import regions


class RegionConnector(nn.Module):
    """Makes `merge` x `merge` neighbouring patches one visual token that chose what to keep of them."""

    def __init__(self, config: Region, *, vision: int, language: int) -> None:
        super().__init__()
        self.config = config
        self.features = nn.Sequential(nn.LayerNorm(vision), nn.Linear(vision, language))
        self.norm_queries, self.norm_features = nn.LayerNorm(language), nn.LayerNorm(language)
        self.attention = Attention(language, config.heads)
        self.project = nn.Sequential(
            nn.LayerNorm(language),
            nn.Linear(language, language),
            nn.GELU(),
            nn.Linear(language, language),
        )

    def forward(self, patches: Tensor) -> Tensor:
        """(N, P, vision) in reading order -> (N, P / merge**2, language) in reading order."""
        fine = regions(self.features(patches), self.config.merge)
        coarse = fine.mean(2, keepdim=True)
        seen = self.norm_features(fine)
        mixed = coarse + self.attention(self.norm_queries(coarse), seen, seen)
        tokens: Tensor = self.project(mixed.squeeze(2))
        return tokens
