// The order in which pixels are kept: tile by tile, and row by row within a tile. Pixels of a tile share
// vertices of the lattices, whose rows then stay in the caches.
#pragma once

#include <algorithm>
#include <cstdint>

namespace densecrf {

constexpr int kTileHeight = 16, kTileWidth = 16;
constexpr int kTilePixels = kTileHeight * kTileWidth;

struct Tile {
    int64_t first;      // number of its first pixel in the order of tiles
    int64_t row, column;  // where it begins in the image
    int height, width;
    int pixels() const { return height * width; }
};

struct Tiling {
    int64_t height, width;   // of the image; 1 and the number of points where there is no image
    int64_t tall, wide;      // of a whole tile

    Tiling(int64_t h, int64_t w) : height(h), width(w) {
        tall = h == 1 ? 1 : kTileHeight;
        wide = h == 1 ? kTilePixels : kTileWidth;
    }
    int64_t pixels() const { return height * width; }
    int64_t across() const { return (width + wide - 1) / wide; }
    int64_t count() const { return (height + tall - 1) / tall * across(); }
    Tile tile(int64_t index) const {
        Tile t;
        t.row = index / across() * tall;
        t.column = index % across() * wide;
        t.height = (int)std::min(tall, height - t.row);
        t.width = (int)std::min(wide, width - t.column);
        t.first = t.row * width + t.column * t.height;
        return t;
    }
};

}  // namespace densecrf
