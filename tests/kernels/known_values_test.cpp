// The reference against numbers from elsewhere: PyTorch 2, in double, with hyper-parameters as f32.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/reference/compute.h"

namespace lathe::test {
namespace {

using Values = std::vector<double>;

Tensor tensor(Values& values, Shape shape) { return Tensor(values.data(), DType::f64, shape); }

void expect_near(const Values& got, const Values& want) {
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
        // A few dozen roundings, of numbers up to 10.
        EXPECT_NEAR(got[i], want[i], 1e-14) << "at " << i;
    }
}

Values kX = {-6, -2.5, -1, -0.25, 0, 0.5, 1, 3, 7};

void expect_gelu(Activation activation, const Values& want, const Values& want_gradient) {
    Values y(kX.size());
    reference::compute(Gelu{.activation = activation, .x = tensor(kX, {9}), .y = tensor(y, {9})});
    expect_near(y, want);
    Values ones(kX.size(), 1.0);
    reference::compute(GeluBackward{.activation = activation,
                                    .d_y = tensor(ones, {9}),
                                    .x = tensor(kX, {9}),
                                    .d_x = tensor(y, {9})});
    expect_near(y, want_gradient);
}

TEST(KnownValues, GeluExact) {
    expect_gelu(
        Activation::gelu_exact,
        {-5.919525869479969e-09, -0.015524163314440398, -0.15865525393145702, -0.10032341857926907,
         0.0, 0.34573123063700656, 0.841344746068543, 2.99595030590511, 6.999999999991041},
        {-3.546870945402639e-08, -0.03761108590814519, -0.08331547058768635, 0.304626645116364, 0.5,
         0.8674951246561629, 1.0833154705876864, 1.011945647204184, 1.0000000000626632});
}

TEST(KnownValues, GeluTanh) {
    expect_gelu(
        Activation::gelu_tanh,
        {-8.43964897967453e-11, -0.015084266089998577, -0.15880800939172324, -0.100324649298315,
         0.0, 0.34571400982514394, 0.8411919906082768, 2.996362607918227, 6.999999999999997},
        {-7.709976012836329e-10, -0.03795157621266618, -0.08296408384578252, 0.30464590484893955,
         0.5, 0.8673699035346424, 1.0829640838457826, 1.0115841666309695, 1.0000000000000278});
}

TEST(KnownValues, Swiglu) {
    Values gate_up = kX;
    gate_up.insert(gate_up.end(), kX.size(), 1.0);
    Values y(kX.size());
    reference::compute(Swiglu{.gate_up = tensor(gate_up, {1, 18}), .y = tensor(y, {1, 9})});
    expect_near(
        y, {-0.014835738939808647, -0.18964545005310887, -0.2689414213699951, -0.10945587477855048,
            0.0, 0.3112296656009273, 0.7310585786300049, 2.8577223804672998, 6.993622641639196});
}

TEST(KnownValues, Norm) {
    Values x = {1, -2, 0.5, 3, 0, 1, 2, -1};
    Values weight = {1, 0.5, -1, 2};
    Values bias = {0.1, 0.2, 0.3, 0.4};
    Values y(8);
    Values mean(2);
    Values rstd(2);
    Norm op{.x = tensor(x, {2, 4}),
            .weight = tensor(weight, {4}),
            .bias = tensor(bias, {4}),
            .y = tensor(y, {2, 4}),
            .mean = tensor(mean, {2}),
            .rstd = tensor(rstd, {2})};
    reference::compute(op);
    expect_near(y,
                {0.3105583899886455, -0.5369543649602593, 0.37018612999621514, 3.067072939856176,
                 -0.3472118066563542, 0.4236059033281771, -1.0416354199690625, -2.283270839938125});
    op.kind = NormKind::rmsnorm;
    op.bias = op.mean = Tensor();
    reference::compute(op);
    expect_near(
        y, {0.5298121992304891, -0.5298121992304891, -0.26490609961524453, 3.178873195382934, 0.0,
            0.40824692964306664, -1.6329877185722665, -1.6329877185722665});
}

TEST(KnownValues, CrossEntropy) {
    Values logits = {1, 2, -1, 0.5, 0, 3};
    std::vector<int32_t> targets = {1, 0};
    Values losses(2);
    reference::compute(CrossEntropy{.logits = tensor(logits, {2, 3}),
                                    .targets = Tensor(targets.data(), DType::i32, {2}),
                                    .vocabulary = 3,
                                    .scale = 0.5F,
                                    .losses = tensor(losses, {2}),
                                    .d_logits = tensor(logits, {2, 3})});
    expect_near(losses, {0.34901221676818633, 2.6238729583693674});
    expect_near(logits, {0.12974823017120957, -0.1473077436508794, 0.017559513479669865,
                         -0.46373927715962615, 0.021993240146028922, 0.44174603701359716});
}

/// Packs queries sin(0..) of 2 heads, keys sin(50..) and values sin(100..) of one: T = 3, D = 4.
Values packed_sines() {
    Values qkv;
    for (int t = 0; t < 3; ++t) {
        for (const int first : {0, 12, 50, 100}) {
            for (int i = 0; i < 4; ++i) {
                qkv.push_back(std::sin(first + 4 * t + i));
            }
        }
    }
    return qkv;
}

/// [1, T, H D] as PyTorch's [1, H, T, D].
Values heads_first(const Values& y, size_t stride) {
    Values result;
    for (size_t h = 0; h < 2; ++h) {
        for (size_t t = 0; t < 3; ++t) {
            const auto begin = y.begin() + static_cast<int64_t>(t * stride + h * 4);
            result.insert(result.end(), begin, begin + 4);
        }
    }
    return result;
}

TEST(KnownValues, Attention) {
    Values qkv = packed_sines();
    Values y(24);
    Values statistics(6);
    Values slopes = {0.5, 0.25};
    Attention op{.heads = {2, 1, 4},
                 .qkv = tensor(qkv, {1, 3, 16}),
                 .y = tensor(y, {1, 3, 8}),
                 .log_sum_exp = tensor(statistics, {1, 2, 3})};
    reference::compute(op);
    expect_near(
        heads_first(y, 8),
        {-0.5063656411097588,  0.45202578717835057, 0.9948267913584063,   0.6229886314423488,
         -0.36649874623530126, -0.6249781775737627, -0.308855554685442,   0.2912274408203073,
         0.5655627463425034,   0.5374371870474338,  0.015194356499527007, -0.5210180953416799,
         -0.5063656411097588,  0.45202578717835057, 0.9948267913584063,   0.6229886314423488,
         -0.3577369443014085,  -0.6924458612572056, -0.3905232467508278,  0.27044463982803607,
         0.49480596323489984,  0.5682572119213957,  0.1192554006197606,   -0.43938927603722483});
    op.slopes = tensor(slopes, {2});
    reference::compute(op);
    expect_near(
        heads_first(y, 8),
        {-0.5063656411097588,  0.45202578717835057, 0.9948267913584063,   0.6229886314423488,
         -0.35171774619367785, -0.7387949292941638, -0.446627461528974,   0.2561672346378867,
         0.7282755745904724,   0.6341771826689059,  -0.04298078634053184, -0.6806224186045363,
         -0.5063656411097588,  0.45202578717835057, 0.9948267913584063,   0.6229886314423488,
         -0.3510196045846148,  -0.7441707638087872, -0.45313475470647013, 0.25451125813498776,
         0.6106358433434075,   0.6154315534899544,  0.0544023315658599,   -0.5566441431106801});
}

// Hugging Face's apply_rotary_pos_emb, base 10000.
TEST(KnownValues, Rotary) {
    Values qkv = packed_sines();
    Values table;
    for (int position = 0; position < 3; ++position) {
        table.insert(table.end(), {std::cos(position), std::cos(0.01 * position),
                                   std::sin(position), std::sin(0.01 * position)});
    }
    reference::compute(
        Rotary{.heads = {2, 1, 4}, .qkv = tensor(qkv, {1, 3, 16}), .table = tensor(table, {3, 4})});
    expect_near(heads_first(qkv, 16), {0.0,
                                       0.8414709848078965,
                                       0.9092974268256817,
                                       0.1411200080598672,
                                       -0.17378209886159643,
                                       -0.9654460853389246,
                                       -0.7877961790040104,
                                       0.6473646667358786,
                                       0.08295869172640491,
                                       0.432034535129533,
                                       1.1260135721748827,
                                       -0.9915483949513946,
                                       -0.5365729180004349,
                                       0.4201670368266409,
                                       0.9906073556948704,
                                       0.6502878401571168,
                                       0.47637915225791294,
                                       -0.9628481695227632,
                                       -0.6480224285119145,
                                       0.14025590117823641,
                                       -0.37187080526923755,
                                       0.8534115927981756,
                                       0.8338222116798606,
                                       -0.8293191684835494});
    const Values last_key(qkv.begin() + 2 * 16 + 8, qkv.begin() + 2 * 16 + 12);
    expect_near(last_key, {-0.13601729815718083, 0.6559317310514775, 1.0296625197865275,
                           -0.9531906417193378});
}

// torch.optim.AdamW, three steps.
TEST(KnownValues, AdamW) {
    Values master = {1, -0.5, 0.25, 2};
    Values first(4);
    Values second(4);
    const Values gradients[] = {
        {0.5, -1, 0.125, 0}, {-0.25, 0.75, 0.125, 1e-4}, {1, 0.5, -0.375, -2}};
    const Values wanted[] = {
        {0.989000000430968, -0.4895000003272427, 0.23975000102537997, 1.9980000000149012},
        {0.9853273062066314, -0.48811408929527456, 0.2295102520496582, 1.9886534262737223},
        {0.9778545297632448, -0.48937741404573804, 0.23172118302293243, 1.9928967232338668}};
    for (int64_t step = 1; step <= 3; ++step) {
        Values gradient = gradients[step - 1];
        for (double& g : gradient) {
            g *= 4;  // taken back by gradient_scale
        }
        reference::compute(AdamW{.gradient = tensor(gradient, {4}),
                                 .master = tensor(master, {4}),
                                 .first_moment = tensor(first, {4}),
                                 .second_moment = tensor(second, {4}),
                                 .learning_rate = 1e-2F,
                                 .weight_decay = 0.1F,
                                 .gradient_scale = 0.25F,
                                 .step = step});
        expect_near(master, wanted[step - 1]);
    }
    expect_near(first, {0.11800002658367123, 0.036500011205673755, -0.016125004678964806,
                        -0.1999910476818085});
    expect_near(second, {0.06425001499801866, 0.0843437686413523, 0.008478517619427287,
                         0.20000004815871592});
}

TEST(KnownValues, TokensOutOfRangeAreErrors) {
    Values table(6);
    Values y(2);
    std::vector<int32_t> token = {3};
    EXPECT_THROW(reference::compute(Embedding{.tokens = Tensor(token.data(), DType::i32, {1, 1}),
                                              .token_table = tensor(table, {3, 2}),
                                              .y = tensor(y, {1, 1, 2})}),
                 Error);
    EXPECT_THROW(reference::compute(CrossEntropy{.logits = tensor(table, {1, 6}),
                                                 .targets = Tensor(token.data(), DType::i32, {1}),
                                                 .vocabulary = 3,
                                                 .losses = tensor(y, {1})}),
                 Error);
}

}  // namespace
}  // namespace lathe::test
