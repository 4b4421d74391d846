// Algorithm 2 natively, one update of all entries: what fused.update_behavior calculates.
#include "algorithm2.hpp"
#include "workers.hpp"

namespace {

using namespace native;

struct Minibatch {
  int count;
  const int64_t* rows;  // [entries][count]
  const float* weight;  // [count]
};

// D's arrays may have gaps between entries and between actions.
struct Update {
  Training training;
  int32_t entries, rows, width, actions, minibatches, measure, moments, threads;  // `moments`: write them back, too
  int32_t steps;  // of D
  const float *inputs, *target, *share;  // [entries][rows][width], [entries][actions][rows] twice
  int64_t inputs_entry, inputs_row, target_entry, target_action, share_entry, share_action;
  const Minibatch* minibatch;  // [minibatches], rows null: all of D
  int64_t* gradient_steps;     // [entries]
  uint8_t* active;             // [entries]
  float *kl, *ratio_clipped;   // [entries], if measured
};

class Entry {
 public:
  explicit Entry(const Update& u) : u_(u), algorithm2_(u.training), width_(padded(u.actions)) {
    for (auto* of_row : {&target_, &share_}) of_row->resize(size_t(u.rows) * width_);
  }

  void operator()(int entry) {
    read(entry);
    algorithm2_.read(entry);
    u_.active[entry] = algorithm2_.train(table_, u_.minibatches, [&](int n) {
      const Minibatch& m = u_.minibatch[n];
      return Part{m.count, m.rows ? m.rows + int64_t(entry) * m.count : nullptr, m.weight};
    });
    u_.gradient_steps[entry] = algorithm2_.gradient_steps;
    if (algorithm2_.gradient_steps || u_.training.systematic) algorithm2_.write(entry, u_.moments);
    if (!u_.measure) return;
    u_.kl[entry] = algorithm2_.measure(table_);
    u_.ratio_clipped[entry] = algorithm2_.ratio_clipped;
  }

 private:
  // As it stands, for minibatches by number of row; else what holds nothing is left out, and equal rows become one.
  void read(int entry) {
    const bool as_it_stands = u_.minibatch[0].rows != nullptr;
    transpose(u_.actions, u_.rows, u_.target + entry * u_.target_entry, u_.target_action, target_.data(), width_);
    transpose(u_.actions, u_.rows, u_.share + entry * u_.share_entry, u_.share_action, share_.data(), width_);
    table_.clear(u_.width, u_.actions, as_it_stands ? 0 : u_.rows, u_.training);
    table_.of_count = float(u_.steps);
    const float *x = u_.inputs + entry * u_.inputs_entry, *target = target_.data(), *share = share_.data();
    for (int r = 0; r < u_.rows; ++r, x += u_.inputs_row, target += width_, share += width_) {
      Vec held = all(0.0f);
      for (int k = 0; k < width_; k += LANES) held += load(share + k);
      if (!as_it_stands && sum(held) == 0.0f) continue;
      std::copy_n(x, u_.width, table_.next_inputs());
      std::copy_n(target, width_, table_.next_target());
      float* to = table_.add();
      for (int k = 0; k < width_; k += LANES) store(to + k, load(to + k) + load(share + k));
    }
    table_.inputs.finish();
    if (!as_it_stands) table_.inputs.list_by_input();
  }

  const Update& u_;
  Table table_;
  Algorithm2 algorithm2_;
  int width_;
  Floats target_, share_;  // [rows][width]
};

}  // namespace

extern "C" int lit_maprops_algorithm2(const Update* update) {
  return for_all(update->entries, update->threads, [&] { return Entry(*update); });
}
