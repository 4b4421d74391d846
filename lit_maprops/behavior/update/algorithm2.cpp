// Algorithm 2 natively: the arithmetic of fused.py, entry by entry, all gradient steps of one in a row.
#include "adam.hpp"
#include "distinct.hpp"
#include "mlp.hpp"
#include "workers.hpp"

namespace {

using namespace native;

constexpr float LARGEST = 60.0f;  // as in fused.py

struct Minibatch {
  int count;
  const int64_t* rows;  // [entries][count]
  const float* weight;  // [count]
};

// Everything is float32; `[...]` are shapes. D's arrays may have gaps between entries and between actions.
struct Update {
  // `moments`: write them back, too.
  int32_t entries, rows, width, actions, layers, minibatches, from_zero, measure, moments, threads;
  const int32_t* shapes;  // [layers][3]: out, in, has a bias
  float *flat, *exp_avg, *exp_avg_sq, *steps_taken;  // [entries], `flat_stride` apart; steps [entries]
  int64_t flat_stride, moment_stride;
  const float *inputs, *target, *share;  // [entries][rows][width], [entries][actions][rows] twice
  int64_t inputs_entry, inputs_row, target_entry, target_action, share_entry, share_action;
  const Minibatch* minibatch;  // [minibatches], rows null: all of D
  float clip_epsilon, kl_cutoff;
  AdamSettings adam;
  int64_t* gradient_steps;  // [entries]
  uint8_t* active;          // [entries]
  float *kl, *ratio_clipped;  // [entries], if measured
};

// D of one entry, actions of a row side by side and padded with probability 0.
struct Table {
  Inputs inputs;
  int width;
  std::vector<float> target, share;  // [rows][width]

  // As it stands, for minibatches by number of row; else rows that are equal to the bit become one, with the sum of
  // their shares, and those that hold nothing none.
  void read(const Update& u, int entry, bool as_it_stands) {
    width = padded(u.actions);
    inputs.clear(u.width);
    target.clear(), share.clear();
    if (!as_it_stands) distinct_.clear(u.rows, u.width + width);
    key_.assign(u.width + width, 0.0f), share_.assign(width, 0.0f);
    float* of_target = key_.data() + u.width;
    for (int r = 0; r < u.rows; ++r) {
      bool used = as_it_stands;
      for (int k = 0; k < u.actions; ++k) {
        of_target[k] = u.target[entry * u.target_entry + k * u.target_action + r];
        share_[k] = u.share[entry * u.share_entry + k * u.share_action + r];
        used |= share_[k] != 0.0f;
      }
      if (!used) continue;
      const float* x = u.inputs + entry * u.inputs_entry + r * u.inputs_row;
      std::copy(x, x + u.width, key_.begin());
      const int row = as_it_stands ? r : distinct_.number(key_.data());
      if (row < inputs.rows) {
        for (int k = 0; k < width; ++k) share[size_t(row) * width + k] += share_[k];
        continue;
      }
      inputs.add(x, u.width);
      target.insert(target.end(), of_target, of_target + width);
      share.insert(share.end(), share_.begin(), share_.end());
    }
    inputs.finish();
  }

 private:
  std::vector<float> key_, share_;  // of one row: inputs and target, which make rows equal
  DistinctRows distinct_;
};

class Entry {
 public:
  Entry(const Update& u, const std::vector<Layer>& layers) : u_(u), net_(layers) {
    first_.resize(net_.held()), second_.resize(net_.held()), gradient_.resize(net_.held());
  }

  void operator()(int entry) {
    float *flat = u_.flat + entry * u_.flat_stride, *m = u_.exp_avg + entry * u_.moment_stride,
          *v = u_.exp_avg_sq + entry * u_.moment_stride;
    table_.read(u_, entry, u_.minibatch[0].rows != nullptr);
    net_.read(flat, net_.weights.data());
    if (u_.steps_taken[entry] == 0.0f) {
      std::fill(first_.begin(), first_.end(), 0.0f), std::fill(second_.begin(), second_.end(), 0.0f);
    } else {
      net_.read(m, first_.data()), net_.read(v, second_.data());
    }
    int step = 0;
    bool active = true;
    const bool whole = u_.minibatch[0].rows == nullptr;
    // From Delta = 0 and moments of 0 the first step moves the last layer alone: what lies below is as it was.
    const bool rests = whole && u_.from_zero && u_.steps_taken[entry] == 0.0f;
    for (; step < u_.minibatches; ++step) {
      const Minibatch& batch = u_.minibatch[step];
      Rows rows{whole ? table_.inputs.rows : batch.count, whole ? nullptr : batch.rows + int64_t(entry) * batch.count};
      const float* delta = net_.forward(table_.inputs, rows, rests && step == 1);
      const double kl = statistics(delta, rows, whole ? nullptr : batch.weight, true);
      if (!(kl <= u_.kl_cutoff)) {  // also for NaN
        active = false;
        break;
      }
      net_.backward(table_.inputs, rows, of_delta_.data(), gradient_.data(), u_.from_zero && step == 0);
      u_.steps_taken[entry] += 1.0f;
      adam(net_.held(), net_.weights.data(), first_.data(), second_.data(), gradient_.data(), 1.0f,
           u_.steps_taken[entry], u_.adam);
    }
    u_.gradient_steps[entry] = step;
    u_.active[entry] = active;
    if (step) net_.write(net_.weights.data(), flat);
    if (step && u_.moments) net_.write(first_.data(), m), net_.write(second_.data(), v);
    if (u_.measure) {
      Rows rows{table_.inputs.rows};
      u_.kl[entry] = float(statistics(net_.forward(table_.inputs, rows), rows, nullptr, false));
      u_.ratio_clipped[entry] = clipped_;
    }
  }

 private:
  // KL(pi_theta || pi_phi) over the rows, and with `gradient` of_delta_: u - pi_phi sum u, where u is d_D r if not clipped.
  double statistics(const float* delta, Rows rows, const float* row_weight, bool gradient) {
    const int width = table_.width;
    const float lowest = 1.0f - u_.clip_epsilon;
    of_delta_.resize(size_t(rows.count) * width), ratio_.resize(width);
    double kl = 0.0;
    float clipped = 0.0f;
    for (int r = 0; r < rows.count; ++r, delta += width) {
      const float *target = &table_.target[rows[r] * width], *share = &table_.share[rows[r] * width];
      const float weight = row_weight ? row_weight[r] : 1.0f;
      float* ratio = ratio_.data();
      Vec total = all(0.0f), mean = all(0.0f), visits = all(0.0f);
      for (int k = 0; k < width; k += LANES) {
        Vec d = load(delta + k), t = load(target + k);
        d = d > LARGEST ? all(LARGEST) : d;  // NaN goes through
        d = d < -LARGEST ? all(-LARGEST) : d;
        const Vec w = exp(d);
        store(ratio + k, w);
        total += t * w, mean += t * d, visits += load(share + k);
      }
      const float z = sum(total);
      kl += double(std::log(z) - sum(mean)) * double(sum(visits) * weight);
      Vec of_all = all(0.0f), below = all(0.0f);
      float* out = of_delta_.data() + size_t(r) * width;
      for (int k = 0; k < width; k += LANES) {
        const Vec of_action = load(ratio + k) / z, d_D = load(share + k) * weight;
        const Vec u = of_action <= lowest ? all(0.0f) : d_D * of_action;
        store(ratio + k, of_action), store(out + k, u);
        of_all += u;
        below += of_action < lowest ? d_D : all(0.0f);
      }
      clipped += sum(below);
      if (!gradient) continue;
      const float s = sum(of_all);
      for (int k = 0; k < width; k += LANES)
        store(out + k, load(out + k) - load(ratio + k) * load(target + k) * s);
    }
    clipped_ = clipped;
    return kl;
  }

  const Update& u_;
  Network net_;
  Table table_;
  std::vector<float> first_, second_, gradient_, of_delta_, ratio_;
  float clipped_ = 0.0f;
};

}  // namespace

extern "C" int lit_maprops_algorithm2(const Update* update) {
  std::vector<Layer> layers;
  for (int n = 0; n < update->layers; ++n)
    layers.push_back({update->shapes[3 * n], update->shapes[3 * n + 1], update->shapes[3 * n + 2] != 0});
  return for_all(update->entries, update->threads, [&] { return Entry(*update, layers); });
}
