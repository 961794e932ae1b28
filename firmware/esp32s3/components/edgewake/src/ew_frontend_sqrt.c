/* Step 6 of the frontend: integer square root, exact, by multiplications only. */
#include "ew_frontend_internal.h"

/* 2^15 / sqrt((i + 64.5) / 256), rounded: the reciprocal root of a mantissa in [1/4, 1) from its top 8
 * bits. */
static const uint16_t SEEDS[192] = {
    65281, 64781, 64292, 63814, 63347, 62889, 62442, 62004, 61575, 61154, 60742, 60339, 59943, 59555, 59175,
    58801, 58435, 58075, 57722, 57376, 57035, 56700, 56372, 56049, 55731, 55419, 55112, 54810, 54513, 54221,
    53933, 53650, 53371, 53097, 52826, 52560, 52298, 52040, 51785, 51535, 51288, 51044, 50804, 50567, 50333,
    50103, 49876, 49652, 49430, 49212, 48997, 48784, 48574, 48367, 48163, 47961, 47761, 47564, 47370, 47178,
    46988, 46800, 46615, 46432, 46251, 46072, 45895, 45720, 45547, 45376, 45207, 45040, 44875, 44711, 44550,
    44390, 44232, 44075, 43920, 43767, 43615, 43465, 43316, 43169, 43024, 42879, 42737, 42595, 42456, 42317,
    42180, 42044, 41910, 41776, 41644, 41514, 41384, 41256, 41129, 41003, 40878, 40754, 40631, 40510, 40390,
    40270, 40152, 40035, 39919, 39803, 39689, 39576, 39464, 39352, 39242, 39133, 39024, 38916, 38810, 38704,
    38599, 38494, 38391, 38289, 38187, 38086, 37986, 37887, 37788, 37690, 37593, 37497, 37401, 37307, 37213,
    37119, 37027, 36935, 36843, 36753, 36663, 36573, 36485, 36397, 36309, 36222, 36136, 36051, 35966, 35882,
    35798, 35715, 35632, 35550, 35469, 35388, 35307, 35228, 35148, 35070, 34991, 34914, 34837, 34760, 34684,
    34608, 34533, 34458, 34384, 34310, 34237, 34164, 34092, 34020, 33949, 33878, 33807, 33737, 33668, 33599,
    33530, 33461, 33393, 33326, 33259, 33192, 33126, 33060, 32994, 32929, 32864, 32800,
};

/* floor(sqrt(x)), x > 0. A seed good to 8 bits, one Newton step for the reciprocal root (16 bits) and one for
 * the root (30 bits) leave an error of a few units, which the two loops remove; they make the result exact
 * whatever came before. */
static uint32_t floor_sqrt(uint64_t x) {
    const uint32_t high = (uint32_t)(x >> 32);
    const uint32_t msb = high != 0 ? 32 + ew_msb32(high) : ew_msb32((uint32_t)x);
    const uint32_t shift = (64 - msb) & ~1u;
    const uint64_t scaled = x << shift;
    const uint32_t mantissa = (uint32_t)(scaled >> 32);
    const uint32_t seed = SEEDS[(mantissa >> 24) - 64];
    const uint32_t product = (uint32_t)(((uint64_t)(seed * seed) * mantissa) >> 32);
    const uint32_t inverse = (uint32_t)(((uint64_t)seed * ((3u << 30) - product)) >> 31);
    const uint32_t coarse = (uint32_t)(((uint64_t)mantissa * inverse) >> 15);
    const int64_t error = (int64_t)(scaled - (uint64_t)coarse * coarse);
    const uint64_t refined = (uint64_t)((int64_t)coarse + (((error >> 32) * (int64_t)inverse) >> 16));
    uint32_t root = (uint32_t)(refined < UINT32_MAX ? refined : UINT32_MAX) >> (shift / 2);
    while ((uint64_t)root * root > x) {
        --root;
    }
    while (x - (uint64_t)root * root > 2 * (uint64_t)root) {
        ++root;
    }
    return root;
}

uint32_t ew_frontend_sqrt(uint64_t x) {
    if (x == 0) {
        return 0;
    }
    const uint32_t root = floor_sqrt(x);
    const uint32_t limit = (x >> 32) != 0 ? UINT32_MAX : UINT16_MAX;
    return root + (x - (uint64_t)root * root > root && root != limit ? 1u : 0u);
}
