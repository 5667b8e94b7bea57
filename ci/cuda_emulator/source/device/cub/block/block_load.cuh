// The part of CUB's BlockLoad that CuPy's reductions use: the items of a thread are neighbours.
#pragma once

namespace cub {

enum BlockLoadAlgorithm { BLOCK_LOAD_DIRECT };

template <class T, int threads, int items, BlockLoadAlgorithm = BLOCK_LOAD_DIRECT>
class BlockLoad {
  public:
    struct TempStorage {
        char unused;
    };
    explicit BlockLoad(TempStorage&) {}
    template <class Source>
    void Load(const Source* from, T (&out)[items], int valid, T otherwise) {
        for (int j = 0; j < items; ++j) {
            const int at = int(threadIdx.x) * items + j;
            out[j] = at < valid ? static_cast<T>(from[at]) : otherwise;
        }
    }
};

}  // namespace cub
