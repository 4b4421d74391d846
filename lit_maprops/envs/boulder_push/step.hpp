// BoulderPush natively: the rules of task.py, one environment at a time.
#pragma once
#include <algorithm>
#include <vector>

#include "few_rows.hpp"
#include "outcome.hpp"

namespace boulder_push {

struct Rules {
  int32_t height, width, agents, direction, sensor_range, fixed_cells;  // direction negative: drawn
  float penalty, incentive;
  const int8_t* start;  // [1 + agents][2] of fixed cells
};

constexpr int MOVES[4][2] = {{0, -1}, {0, 1}, {-1, 0}, {1, 0}};

class Task {
 public:
  using Number = uint8_t;

  // The state: direction [rows], boulder [rows][2], agents [rows][A][2], all int8.
  Task(const void* rules, void* const* state)
      : r_(*static_cast<const Rules*>(rules)),
        directions_(static_cast<int8_t*>(state[0])),
        boulders_(static_cast<int8_t*>(state[1])),
        bodies_(static_cast<int8_t*>(state[2])),
        body_(r_.agents),
        here_(r_.agents),
        there_(r_.agents),
        taken_(2 * r_.agents),
        blocked_(r_.agents),
        walked_(r_.agents) {}

  void start(int64_t row, const float* noise) {
    const int direction = r_.direction < 0 ? int(noise[0] * 4.0f) : r_.direction;
    int8_t *boulder = boulders_ + 2 * row, *agents = bodies_ + 2 * r_.agents * row;
    directions_[row] = int8_t(direction);
    if (r_.fixed_cells) {
      std::copy_n(r_.start, 2, boulder);
      std::copy_n(r_.start + 2, 2 * r_.agents, agents);
      return;
    }
    const bool vertical = direction < 2;
    const int free_x = vertical ? r_.width - r_.agents + 1 : r_.width - 2;
    const int free_y = vertical ? r_.height - 2 : r_.height - r_.agents + 1;
    boulder[0] = int8_t(int(noise[1] * float(free_x)) + !vertical);
    boulder[1] = int8_t(int(noise[2] * float(free_y)) + vertical);
    for (int i = 0; i < r_.agents; ++i)
      taken_[i] = (boulder[1] + i * !vertical) * r_.width + boulder[0] + i * vertical;
    std::sort(taken_.begin(), taken_.begin() + r_.agents);
    for (int i = 0; i < r_.agents; ++i) {
      const int count = r_.agents + i;
      int cell = int(noise[3 + i] * float(r_.height * r_.width - count));
      int k = 0;  // the cell's place among those that are taken, which stay in ascending order
      for (; k < count && taken_[k] <= cell; ++k) ++cell;
      std::copy_backward(taken_.begin() + k, taken_.begin() + count, taken_.begin() + count + 1);
      taken_[k] = cell;
      agents[2 * i] = int8_t(cell % r_.width), agents[2 * i + 1] = int8_t(cell / r_.width);
    }
  }

  native::Outcome step(int64_t row, const int64_t* action, const float* noise, float* reward) {
    const int n = r_.agents, direction = directions_[row];
    int8_t *boulder = boulders_ + 2 * row, *agents = bodies_ + 2 * n * row;
    const bool vertical = direction < 2;
    const int push = number(MOVES[direction][0], MOVES[direction][1]);
    for (int i = 0; i < n; ++i) {
      body_[i] = number(boulder[0] + i * vertical, boulder[1] + i * !vertical);
      here_[i] = number(agents[2 * i], agents[2 * i + 1]);
    }
    bool pushed = !at_goal(direction, boulder);
    for (int i = 0; i < n && pushed; ++i)
      pushed = action[i] == direction && std::find(body_.begin(), body_.end(), here_[i] + push) != body_.end();
    for (int i = 0; i < n; ++i) {
      there_[i] = here_[i] + number(MOVES[action[i]][0], MOVES[action[i]][1]);
      blocked_[i] = std::find(body_.begin(), body_.end(), there_[i]) != body_.end();
    }
    bool goal = false;
    if (pushed) {
      for (int i = 0; i < n; ++i) move(agents + 2 * i, direction);
      move(boulder, direction);
      goal = at_goal(direction, boulder);
    } else {
      walk(agents, action, noise);
    }
    for (int i = 0; i < n; ++i) reward[i] = pushed ? r_.incentive + float(goal) : -r_.penalty * float(blocked_[i]);
    return {goal, goal};
  }

  void observe(int64_t row, Number* observation, Number* everything, native::Nonzeros* seen, int64_t between,
               native::Nonzeros& all) {
    const int n = r_.agents, direction = directions_[row], side = 2 * r_.sensor_range + 1;
    const int8_t *boulder = boulders_ + 2 * row, *agents = bodies_ + 2 * n * row;
    const bool vertical = direction < 2;
    for (int i = 0; i < n; ++i, observation += 4 + 2 * side * side) {
      native::Nonzeros& own = seen[i * between];
      own.clear(), own.add(direction);
      const int west = agents[2 * i] - r_.sensor_range, north = agents[2 * i + 1] - r_.sensor_range;
      for (int thing = 0; thing < 2 * n; ++thing) {
        const int k = thing - n;  // of the boulder's cells
        const int x = (k < 0 ? agents[2 * thing] : boulder[0] + k * vertical) - west;
        const int y = (k < 0 ? agents[2 * thing + 1] : boulder[1] + k * !vertical) - north;
        if (x >= 0 && x < side && y >= 0 && y < side) own.add(4 + (k >= 0) * side * side + y * side + x);
      }
      write_ones(own, 4 + 2 * side * side, observation);
    }
    all.clear(), all.add(direction);
    for (int body = 0; body <= n; ++body) {
      const int8_t* cell = body ? agents + 2 * (body - 1) : boulder;
      const int first = 4 + body * (r_.width + r_.height);
      all.add(first + cell[0]), all.add(first + r_.width + cell[1]);
    }
    write_ones(all, 4 + (n + 1) * (r_.width + r_.height), everything);
  }

  int64_t index(int64_t row) const {
    const int8_t* cell = boulders_ + 2 * row;
    int64_t index = directions_[row];
    for (int body = 0; body <= r_.agents; ++body) {
      if (body) cell = bodies_ + 2 * (r_.agents * row + body - 1);
      index = index * (r_.width * r_.height) + cell[1] * r_.width + cell[0];
    }
    return index;
  }

 private:
  // Distinct for all cells of the grid and the ring around it; linear.
  int number(int x, int y) const { return y * (r_.width + 2) + x; }

  bool at_goal(int direction, const int8_t* boulder) const {
    const bool vertical = direction < 2, positive = direction % 2 == 1;
    return boulder[vertical] == (positive ? (vertical ? r_.height : r_.width) - 1 : 0);
  }

  static void move(int8_t* cell, int direction) {
    cell[0] = int8_t(cell[0] + MOVES[direction][0]), cell[1] = int8_t(cell[1] + MOVES[direction][1]);
  }

  // One after the other in ascending order of their noise; each sees the cells that the earlier ones left or took.
  void walk(int8_t* agents, const int64_t* action, const float* noise) {
    const int n = r_.agents;
    std::fill(walked_.begin(), walked_.end(), 0);
    for (int turn = 0; turn < n; ++turn) {
      int now = -1;
      for (int i = 0; i < n; ++i)
        if (!walked_[i] && (now < 0 || noise[i] < noise[now])) now = i;
      walked_[now] = 1;
      const int x = agents[2 * now] + MOVES[action[now]][0], y = agents[2 * now + 1] + MOVES[action[now]][1];
      if (x < 0 || x >= r_.width || y < 0 || y >= r_.height || blocked_[now]) continue;
      if (std::find(here_.begin(), here_.end(), there_[now]) != here_.end()) continue;
      here_[now] = there_[now];
      move(agents + 2 * now, int(action[now]));
    }
  }

  static void write_ones(const native::Nonzeros& from, int size, Number* to) {
    std::fill_n(to, size, 0);
    for (int column : from.column) to[column] = 1;
  }

  const Rules& r_;
  int8_t *directions_, *boulders_, *bodies_;
  std::vector<int> body_, here_, there_, taken_;
  std::vector<char> blocked_, walked_;
};

}  // namespace boulder_push
