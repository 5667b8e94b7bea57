// The part of CUB's BlockReduce that CuPy's reductions use: a tree over the threads; thread 0 has the result.
#pragma once

#include <new>

namespace cub {

template <class T, int threads>
class BlockReduce {
  public:
    struct TempStorage {
        alignas(T) char values[threads][sizeof(T)];
    };
    explicit BlockReduce(TempStorage& storage) : storage_(storage) {}
    template <int items, class Operation>
    T Reduce(T (&mine)[items], Operation operation) {
        T sum = mine[0];
        for (int j = 1; j < items; ++j) sum = operation(sum, mine[j]);
        const int me = int(threadIdx.x);
        new (storage_.values[me]) T(sum);
        for (int half = threads / 2; half > 0; half /= 2) {
            __syncthreads();
            if (me < half) at(me) = operation(at(me), at(me + half));
        }
        __syncthreads();
        return at(me);
    }

  private:
    T& at(int thread) { return *reinterpret_cast<T*>(storage_.values[thread]); }
    TempStorage& storage_;
};

}  // namespace cub
