// Foraging natively: the rules of task.py, one environment at a time.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <vector>

#include "few_rows.hpp"
#include "outcome.hpp"

namespace foraging {

struct Rules {
  int32_t size, agents, foods, force_coop, sight, min_player_level, max_player_level, min_food_level;
  int32_t max_food_level;  // 0: the sum of the three lowest levels of agents
  int32_t top_food_level, normalize_reward;
  float penalty;
};

constexpr int MOVES[6][2] = {{0, 0}, {-1, 0}, {1, 0}, {0, -1}, {0, 1}, {0, 0}};  // (rows, columns)
constexpr int LOAD = 5;
constexpr int8_t GONE = -8;

class Task {
 public:
  using Number = int8_t;

  // The state: agents [rows][A][2], agent_level [rows][A], food [rows][F][2], food_level [rows][F], all int8.
  Task(const void* rules, void* const* state)
      : r_(*static_cast<const Rules*>(rules)),
        bodies_(static_cast<int8_t*>(state[0])),
        levels_(static_cast<int8_t*>(state[1])),
        foods_(static_cast<int8_t*>(state[2])),
        food_levels_(static_cast<int8_t*>(state[3])),
        free_(r_.size * r_.size),
        cells_(r_.foods),
        here_(r_.agents),
        there_(r_.agents),
        goal_(r_.agents),
        sorted_(r_.agents) {}

  void start(int64_t row, const float* noise) {
    const int n = r_.agents, most = r_.size * r_.size;
    int8_t *agents = bodies_ + 2 * n * row, *level = levels_ + n * row;
    std::fill(free_.begin(), free_.end(), 1);
    for (int i = 0; i < n; ++i) {
      const int cell = random_cell(noise[i]);
      free_[cell] = 0;
      agents[2 * i] = int8_t(cell / r_.size), agents[2 * i + 1] = int8_t(cell % r_.size);
      level[i] = int8_t(int(noise[n + i] * float(r_.max_player_level + 1 - r_.min_player_level)) + r_.min_player_level);
    }
    place_food(noise + 2 * n);
    int highest = r_.max_food_level;
    if (!highest) {
      std::copy_n(level, n, sorted_.begin());
      std::sort(sorted_.begin(), sorted_.end());
      for (int i = 0; i < std::min(3, n); ++i) highest += sorted_[i];
    }
    const int lowest = r_.force_coop ? highest : r_.min_food_level;
    for (int f = 0; f < r_.foods; ++f) {
      int8_t* food = foods_ + 2 * (r_.foods * row + f);
      const bool placed = cells_[f] < most;
      food[0] = placed ? int8_t(cells_[f] / r_.size) : GONE, food[1] = placed ? int8_t(cells_[f] % r_.size) : GONE;
      const int drawn = lowest + int(noise[2 * n + r_.foods + f] * float(highest + 1 - lowest));
      food_levels_[r_.foods * row + f] = int8_t(placed ? drawn : 0);
    }
  }

  native::Outcome step(int64_t row, const int64_t* action, const float*, float* reward) {
    const int n = r_.agents;
    int8_t *agents = bodies_ + 2 * n * row, *food = foods_ + 2 * r_.foods * row;
    for (int i = 0; i < n; ++i) {
      const int *move = MOVES[action[i]], x = agents[2 * i] + move[0], y = agents[2 * i + 1] + move[1];
      here_[i] = number(agents + 2 * i), there_[i] = here_[i] + move[0] * (r_.size + 2) + move[1];
      bool possible = x >= 0 && x < r_.size && y >= 0 && y < r_.size;
      for (int f = 0; f < r_.foods && possible; ++f) possible = there_[i] != number(food + 2 * f);
      goal_[i] = possible ? there_[i] : here_[i];
    }
    for (int i = 0; i < n; ++i) {
      if (std::count(goal_.begin(), goal_.end(), goal_[i]) > 1 || goal_[i] == here_[i]) continue;
      agents[2 * i] = int8_t(agents[2 * i] + MOVES[action[i]][0]);
      agents[2 * i + 1] = int8_t(agents[2 * i + 1] + MOVES[action[i]][1]);
    }
    load(row, action, reward);
    bool over = true;
    for (int f = 0; f < r_.foods; ++f) over = over && food[2 * f] < 0;
    return {over, over};
  }

  void observe(int64_t row, Number* observation, Number* everything, native::Nonzeros* seen, int64_t between,
               native::Nonzeros& all) {
    for (int i = 0; i < r_.agents; ++i, observation += 3 * (r_.foods + r_.agents)) {
      observe_as(i, row, observation);
      nonzeros(observation, 3 * (r_.foods + r_.agents), seen[i * between]);
    }
    const int things = r_.agents + r_.foods;
    std::fill_n(everything, state_size(), 0);
    for (int thing = 0; thing < things; ++thing) {
      const int f = thing - r_.agents;
      const int8_t* cell = f < 0 ? bodies_ + 2 * (r_.agents * row + thing) : foods_ + 2 * (r_.foods * row + f);
      Number* to = everything + 2 * r_.size * thing;
      if (cell[0] >= 0) to[cell[0]] = 1, to[r_.size + cell[1]] = 1;
    }
    Number* to = everything + 2 * r_.size * things - 1;  // levels count from 1
    for (int i = 0; i < r_.agents; ++i, to += r_.max_player_level) to[levels_[r_.agents * row + i]] = 1;
    for (int f = 0; f < r_.foods; ++f, to += r_.top_food_level) {
      const int level = food_levels_[r_.foods * row + f];
      if (level) to[level] = 1;
    }
    nonzeros(everything, state_size(), all);
  }

  int64_t index(int64_t row) const {
    const int64_t cells = r_.size * r_.size;
    int64_t index = 0;
    for (int i = 0; i < r_.agents; ++i) {
      const int8_t* cell = bodies_ + 2 * (r_.agents * row + i);
      const int64_t own = (cell[0] * r_.size + cell[1]) * r_.max_player_level + levels_[r_.agents * row + i] - 1;
      index = index * (cells * r_.max_player_level) + own;
    }
    for (int f = 0; f < r_.foods; ++f) {
      const int8_t* cell = foods_ + 2 * (r_.foods * row + f);
      const int64_t place = std::max(cell[0] * r_.size + cell[1] + 1, 0);
      const int64_t own = place * (r_.top_food_level + 1) + food_levels_[r_.foods * row + f];
      index = index * ((cells + 1) * (r_.top_food_level + 1)) + own;
    }
    return index;
  }

 private:
  // Distinct for all cells of the grid and the ring around it; linear.
  int number(const int8_t* cell) const { return cell[0] * (r_.size + 2) + cell[1]; }

  int state_size() const {
    return r_.agents * (2 * r_.size + r_.max_player_level) + r_.foods * (2 * r_.size + r_.top_food_level);
  }

  // Uniform over the free cells; the number of all cells if none is.
  int random_cell(float chance) const {
    const int count = int(std::count(free_.begin(), free_.end(), 1));
    int skipped = int(chance * float(count)), cell = 0;
    for (; cell < int(free_.size()); ++cell)
      if (free_[cell] && skipped-- == 0) break;
    return cell;
  }

  void place_food(const float* noise) {
    const int last = r_.size - 1;
    for (int cell = 0; cell < r_.size * r_.size; ++cell) {
      const int x = cell / r_.size, y = cell % r_.size;
      if (x == 0 || x == last || y == 0 || y == last) free_[cell] = 0;
    }
    for (int f = 0; f < r_.foods; ++f) {
      const int cell = cells_[f] = random_cell(noise[f]);
      const int row = cell / r_.size, column = cell % r_.size;
      for (int x = std::max(row - 2, 0); x <= std::min(row + 2, last); ++x)
        for (int y = std::max(column - 2, 0); y <= std::min(column + 2, last); ++y)
          if (std::abs(x - row) + std::abs(y - column) <= 2) free_[x * r_.size + y] = 0;
    }
    std::sort(cells_.begin(), cells_.end());
  }

  // Those beside a food that load it, from where they stood before the moves; nobody is beside two.
  void load(int64_t row, const int64_t* action, float* reward) {
    const int8_t *level = levels_ + r_.agents * row, *food_level = food_levels_ + r_.foods * row;
    int8_t* food = foods_ + 2 * r_.foods * row;
    std::fill_n(reward, r_.agents, 0.0f);
    float total = 0.0f;
    for (int f = 0; f < r_.foods; ++f) total += float(food_level[f]);
    for (int f = 0; f < r_.foods; ++f) {
      const int place = number(food + 2 * f);
      const auto loads = [&](int i) {
        const int distance = std::abs(here_[i] - place);
        return action[i] == LOAD && (distance == 1 || distance == r_.size + 2);
      };
      int group = 0;
      for (int i = 0; i < r_.agents; ++i) group += loads(i) ? level[i] : 0;
      const bool collected = group > 0 && group >= food_level[f];
      float worth = float(food_level[f]);
      if (r_.normalize_reward) worth = worth / (float(group) * total);
      for (int i = 0; i < r_.agents; ++i)
        if (loads(i)) reward[i] += collected ? float(level[i]) * worth : -r_.penalty;
      if (collected) food[2 * f] = food[2 * f + 1] = GONE;
    }
  }

  // Seen food, then seen agents, itself first, each closed up.
  void observe_as(int agent, int64_t row, Number* to) const {
    const int8_t *agents = bodies_ + 2 * r_.agents * row, *me = agents + 2 * agent;
    const int north = std::max(me[0] - r_.sight, 0), west = std::max(me[1] - r_.sight, 0);
    const int reach = std::min(2 * r_.sight, r_.size);
    for (int thing = 0; thing < r_.foods + r_.agents; ++thing)
      to[3 * thing] = to[3 * thing + 1] = -1, to[3 * thing + 2] = 0;
    const auto write = [&](Number*& slot, const int8_t* cell, int level) {
      slot[0] = Number(cell[0] - north), slot[1] = Number(cell[1] - west), slot[2] = Number(level);
      slot += 3;
    };
    Number* slot = to;
    for (int f = 0; f < r_.foods; ++f) {
      const int8_t* cell = foods_ + 2 * (r_.foods * row + f);
      const bool near = std::abs(cell[0] - me[0]) <= r_.sight && std::abs(cell[1] - me[1]) <= r_.sight;
      if (near && cell[0] >= 0) write(slot, cell, food_levels_[r_.foods * row + f]);
    }
    slot = to + 3 * r_.foods;
    for (int k = 0; k < r_.agents; ++k) {
      const int other = k == 0 ? agent : k <= agent ? k - 1 : k;
      const int x = agents[2 * other] - north, y = agents[2 * other + 1] - west;
      if (x >= 0 && x <= reach && y >= 0 && y <= reach) write(slot, agents + 2 * other, levels_[r_.agents * row + other]);
    }
  }

  static void nonzeros(const Number* from, int size, native::Nonzeros& to) {
    to.clear();
    for (int k = 0; k < size; ++k)
      if (from[k]) to.add(k, float(from[k]));
  }

  const Rules& r_;
  int8_t *bodies_, *levels_, *foods_, *food_levels_;
  std::vector<char> free_;
  std::vector<int> cells_, here_, there_, goal_, sorted_;
};

}  // namespace foraging
