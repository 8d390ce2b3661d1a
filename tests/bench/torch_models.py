"""Networks of full size in PyTorch with random weights, for peers.py: the public architectures, written so that they export to
ONNX and compile whole."""

import math

import torch
from torch import nn
from torch.nn import functional as F


def conv_norm(inputs, outputs, kernel, stride=1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.reduce = conv_norm(inputs, width, 1)
        self.middle = conv_norm(width, width, 3, stride)
        self.expand = conv_norm(width, 4 * width, 1)
        self.skip = nn.Identity()
        if stride != 1 or inputs != 4 * width:
            self.skip = conv_norm(inputs, 4 * width, 1, stride)

    def forward(self, x):
        y = F.relu(self.middle(F.relu(self.reduce(x))))
        return F.relu(self.expand(y) + self.skip(x))


class ResNet50(nn.Module):
    def __init__(self, width=64, depths=(3, 4, 6, 3)):
        super().__init__()
        self.stem = conv_norm(3, width, 7, 2)
        blocks, inputs = [], width
        for stage, depth in enumerate(depths):
            for i in range(depth):
                blocks.append(Bottleneck(inputs, width << stage, 2 if i == 0 and stage > 0 else 1))
                inputs = 4 * (width << stage)
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, 1000)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, 1)
        return self.head(self.blocks(x).mean((2, 3)))


class BertLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-12), nn.LayerNorm(width, 1e-12)

    def forward(self, x):
        batch, length, width = x.shape

        def split(y):
            return y.view(batch, length, self.heads, width // self.heads).transpose(1, 2)

        y = F.scaled_dot_product_attention(split(self.query(x)), split(self.key(x)), split(self.value(x)))
        x = self.norm1(x + self.output(y.transpose(1, 2).reshape(batch, length, width)))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class BertBase(nn.Module):
    def __init__(self, width=768, heads=12, layers=12, vocabulary=30522, length=512):
        super().__init__()
        self.words, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.norm = nn.LayerNorm(width, 1e-12)
        self.layers = nn.Sequential(*(BertLayer(width, heads) for _ in range(layers)))

    def forward(self, ids):
        x = self.words(ids) + self.places.weight[: ids.shape[1]]
        return self.layers(self.norm(x))


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        wide = x if x.dtype == torch.float64 else x.float()
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


class LlamaLayer(nn.Module):
    def __init__(self, width, heads, kv_heads, hidden):
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, width // heads
        self.q = nn.Linear(width, width, bias=False)
        self.k, self.v = (nn.Linear(width, kv_heads * self.size, bias=False) for _ in range(2))
        self.o = nn.Linear(width, width, bias=False)
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)
        self.norm1, self.norm2 = RmsNorm(width), RmsNorm(width)

    def forward(self, x, cosines, sines, mask):
        batch, length, width = x.shape

        def split(y, heads):
            return y.view(batch, length, heads, self.size).transpose(1, 2)

        def rotate(y):
            first, second = y.chunk(2, -1)
            return y * cosines + torch.cat((-second, first), -1) * sines

        def repeat(y):
            times = self.heads // self.kv_heads
            y = y[:, :, None].expand(batch, self.kv_heads, times, length, self.size)
            return y.reshape(batch, self.heads, length, self.size)

        y = self.norm1(x)
        q, k = rotate(split(self.q(y), self.heads)), rotate(split(self.k(y), self.kv_heads))
        k, v = repeat(k), repeat(split(self.v(y), self.kv_heads))
        # The exporter writes is_causal as a float32 mask, which would turn half the layer to
        # float32.
        if torch.onnx.is_in_onnx_export():
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(batch, length, width))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """The shape of Llama 3.2 1B."""

    def __init__(self, width=2048, heads=32, kv_heads=8, hidden=8192, layers=16, vocabulary=128256, length=512):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(LlamaLayer(width, heads, kv_heads, hidden) for _ in range(layers))
        self.norm = RmsNorm(width)
        size = width // heads
        angles = torch.arange(length)[:, None] / 500000 ** (torch.arange(0, size, 2) / size)[None]
        angles = torch.cat((angles, angles), -1)
        self.register_buffer("cosines", angles.cos())
        self.register_buffer("sines", angles.sin())
        self.register_buffer("mask", torch.full((length, length), -math.inf).triu(1))

    def forward(self, ids):
        x = self.words(ids)
        for layer in self.layers:
            x = layer(x, self.cosines, self.sines, self.mask)
        return F.linear(self.norm(x), self.words.weight)


class TowerBlock(nn.Module):
    """Two convolutions, squeeze-excitation with scale and shift, residual."""

    def __init__(self, channels, squeezed):
        super().__init__()
        self.first, self.second = conv_norm(channels, channels, 3), conv_norm(channels, channels, 3)
        self.squeeze, self.excite = nn.Linear(channels, squeezed), nn.Linear(squeezed, 2 * channels)

    def forward(self, x):
        y = self.second(F.relu(self.first(x)))
        scale, shift = self.excite(F.relu(self.squeeze(y.mean((2, 3))))).chunk(2, 1)
        return F.relu(y * torch.sigmoid(scale)[:, :, None, None] + shift[:, :, None, None] + x)


class Tower(nn.Module):
    """An AlphaZero-like network for an 8x8 board: policy and value."""

    def __init__(self, channels=256, blocks=20, squeezed=64, planes=112, moves=80):
        super().__init__()
        self.stem = conv_norm(planes, channels, 3)
        self.blocks = nn.Sequential(*(TowerBlock(channels, squeezed) for _ in range(blocks)))
        self.policy = nn.Sequential(conv_norm(channels, channels, 3), nn.ReLU(), nn.Conv2d(channels, moves, 1))
        self.value = nn.Sequential(conv_norm(channels, 32, 1), nn.ReLU())
        self.value_head = nn.Sequential(nn.Linear(32 * 64, 128), nn.ReLU(), nn.Linear(128, 3))

    def forward(self, x):
        x = self.blocks(F.relu(self.stem(x)))
        return self.policy(x).flatten(1), self.value_head(self.value(x).flatten(1))


class Residual(nn.Module):
    def __init__(self, inputs, outputs, time):
        super().__init__()
        groups = min(32, inputs)
        self.norm1, self.conv1 = nn.GroupNorm(groups, inputs), nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.time = nn.Linear(time, outputs)
        self.norm2, self.conv2 = nn.GroupNorm(min(32, outputs), outputs), nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, time):
        y = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(time))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(y)))


class Attention(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.k, self.v = (nn.Linear(context, width, bias=False) for _ in range(2))
        self.o = nn.Linear(width, width)

    def forward(self, x, context):
        def split(y):
            return y.view(y.shape[0], y.shape[1], self.heads, -1).transpose(1, 2)

        y = F.scaled_dot_product_attention(split(self.q(x)), split(self.k(context)), split(self.v(context)))
        return self.o(y.transpose(1, 2).reshape(x.shape))


class Transformer(nn.Module):
    """Group norm, then self-attention, cross-attention and a gated feed-forward over the pixels."""

    def __init__(self, width, context, heads):
        super().__init__()
        self.norm, self.enter, self.leave = nn.GroupNorm(min(32, width), width, 1e-6), nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.own, self.cross = Attention(width, width, heads), Attention(width, context, heads)
        self.up, self.down = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

    def forward(self, x, context):
        batch, width, height, columns = x.shape
        y = self.enter(self.norm(x)).permute(0, 2, 3, 1).reshape(batch, height * columns, width)
        z = self.norms[0](y)
        y = y + self.own(z, z)
        y = y + self.cross(self.norms[1](y), context)
        values, gate = self.up(self.norms[2](y)).chunk(2, -1)
        y = y + self.down(values * F.gelu(gate))
        return x + self.leave(y.reshape(batch, height, columns, width).permute(0, 3, 1, 2))


class Pair(nn.Module):
    """A residual block and, where there is one, its transformer."""

    def __init__(self, inputs, outputs, time, context, heads, attends):
        super().__init__()
        self.residual = Residual(inputs, outputs, time)
        self.transformer = Transformer(outputs, context, heads) if attends else None

    def forward(self, x, time, context):
        x = self.residual(x, time)
        return x if self.transformer is None else self.transformer(x, context)


class UNet(nn.Module):
    """The UNet of Stable Diffusion 1.5."""

    def __init__(self, base=320, factors=(1, 2, 4, 4), context=768, heads=8):
        super().__init__()
        self.base = base
        time = 4 * base
        self.time1, self.time2 = nn.Linear(base, time), nn.Linear(time, time)
        self.enter = nn.Conv2d(4, base, 3, 1, 1)
        self.down, self.shrink, self.up, self.grow = (nn.ModuleList() for _ in range(4))
        widths, inputs = [base], base
        for level, factor in enumerate(factors):
            last = level == len(factors) - 1
            for _ in range(2):
                self.down.append(Pair(inputs, base * factor, time, context, heads, not last))
                inputs = base * factor
                widths.append(inputs)
            if not last:
                self.shrink.append(nn.Conv2d(inputs, inputs, 3, 2, 1))
                widths.append(inputs)
        self.middle = Pair(inputs, inputs, time, context, heads, True)
        self.middle_end = Residual(inputs, inputs, time)
        for level, factor in reversed(list(enumerate(factors))):
            for _ in range(3):
                self.up.append(Pair(inputs + widths.pop(), base * factor, time, context, heads, level < len(factors) - 1))
                inputs = base * factor
            if level > 0:
                self.grow.append(nn.Conv2d(inputs, inputs, 3, 1, 1))
        self.norm, self.leave = nn.GroupNorm(min(32, base), base), nn.Conv2d(base, 4, 3, 1, 1)
        frequencies = torch.exp(-math.log(10000) * torch.arange(base // 2) / (base // 2))
        self.register_buffer("frequencies", frequencies)

    def forward(self, x, step, context):
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        angles = step[:, None].to(wide) * self.frequencies[None].to(wide)
        time = self.time2(F.silu(self.time1(torch.cat((angles.cos(), angles.sin()), -1).to(x.dtype))))
        x = self.enter(x)
        skips, shrink, grow = [x], iter(self.shrink), iter(self.grow)
        for i, pair in enumerate(self.down):
            x = pair(x, time, context)
            skips.append(x)
            if i % 2 == 1 and i + 1 < len(self.down):
                x = next(shrink)(x)
                skips.append(x)
        x = self.middle_end(self.middle(x, time, context), time)
        for i, pair in enumerate(self.up):
            x = pair(torch.cat((x, skips.pop()), 1), time, context)
            if i % 3 == 2 and i + 1 < len(self.up):
                x = next(grow)(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.leave(F.silu(self.norm(x)))


def ids(batch, length, vocabulary):
    return torch.randint(0, vocabulary, (batch, length))


# By name: the module at full size and its inputs for a batch, and the same at a size that a CPU
# takes in a second.
NETWORKS = {
    "resnet50": (lambda: ResNet50(), lambda n: [torch.randn(n, 3, 224, 224)],
                 lambda: ResNet50(8, (1, 1, 1, 1)), lambda n: [torch.randn(n, 3, 32, 32)]),
    "bert": (lambda: BertBase(), lambda n: [ids(n, 128, 30522)],
             lambda: BertBase(32, 2, 2, 100, 16), lambda n: [ids(n, 16, 100)]),
    "llama": (lambda: Llama(), lambda n: [ids(n, 512, 128256)],
              lambda: Llama(32, 4, 2, 64, 2, 100, 16), lambda n: [ids(n, 16, 100)]),
    "tower": (lambda: Tower(), lambda n: [torch.randn(n, 112, 8, 8)],
              lambda: Tower(16, 2, 4, 12, 8), lambda n: [torch.randn(n, 12, 8, 8)]),
    "unet": (lambda: UNet(), lambda n: [torch.randn(n, 4, 64, 64), torch.full((n,), 500.0), torch.randn(n, 77, 768)],
             lambda: UNet(8, (1, 2), 12, 2), lambda n: [torch.randn(n, 4, 8, 8), torch.full((n,), 500.0), torch.randn(n, 5, 12)]),
}
