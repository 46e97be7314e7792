// Real work under made-up names, for pictures of the page: it runs as the program that its own name says, until it is ended.
//
//     c++ -O2 -g -pthread load.cc -o storefront        storefront: orders as text, parsed, matched and sorted
//     cp storefront search                              search: an index of words, built and asked
//     cp storefront thumbnails                          thumbnails: pictures scaled down on two threads
//
// After the seconds given as argument the storefront compiles its pattern for each order again, the mistake that a comparison of two
// times shows. Each program rests between rounds, so that the node is not full.
#include <pthread.h>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <map>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#define KEPT __attribute__((noinline))
using Clock = std::chrono::steady_clock;
static const Clock::time_point began = Clock::now();
static double seconds() { return std::chrono::duration<double>(Clock::now() - began).count(); }
static unsigned long state = 88172645463325252ul;
static unsigned random_number() { state ^= state << 13; state ^= state >> 7; state ^= state << 17; return unsigned(state >> 16); }
static void rest(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

namespace storefront {
struct Order { std::string customer; unsigned cents; };

KEPT std::string receive_order() {
  std::string text = "customer=c" + std::to_string(random_number() % 5000);
  for (int item = 0; item < 12; item++) text += ";item-" + std::to_string(random_number() % 900) + "=" + std::to_string(random_number() % 9999);
  return text;
}
KEPT unsigned sum_items(const std::string& text, const std::regex& pattern) {
  unsigned cents = 0;
  for (std::sregex_iterator at(text.begin(), text.end(), pattern), end; at != end; ++at) cents += std::stoul((*at)[2]);
  return cents;
}
KEPT std::regex compile_pattern() { return std::regex("(item-[0-9]+)=([0-9]+)", std::regex::ECMAScript | std::regex::optimize); }
KEPT Order parse_order(const std::string& text, double slower_after) {
  static const std::regex once = compile_pattern();
  const bool slower = seconds() > slower_after;
  return {text.substr(9, text.find(';') - 9), slower ? sum_items(text, compile_pattern()) : sum_items(text, once)};
}
KEPT void rank_customers(std::vector<Order>& orders) {
  std::map<std::string, unsigned> sums;
  for (const Order& order : orders) sums[order.customer] += order.cents;
  std::sort(orders.begin(), orders.end(), [&](const Order& a, const Order& b) { return sums[a.customer] > sums[b.customer]; });
}
KEPT void handle_requests(double slower_after) {
  for (;;) {
    std::vector<Order> orders;
    for (int order = 0; order < 600; order++) orders.push_back(parse_order(receive_order(), slower_after));
    rank_customers(orders);
    rest(35);
  }
}
}

namespace search {
using Index = std::map<std::string, std::vector<unsigned>>;
KEPT std::string word() { std::string text; for (int letter = 0; letter < 5; letter++) text += char('a' + random_number() % 9); return text; }
KEPT void add_document(Index& index, unsigned number) { for (int each = 0; each < 60; each++) index[word()].push_back(number); }
KEPT unsigned intersect(const std::vector<unsigned>& a, const std::vector<unsigned>& b) {
  std::vector<unsigned> both;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  return both.size();
}
KEPT unsigned answer_query(const Index& index) {
  const auto a = index.lower_bound(word()), b = index.lower_bound(word());
  return a == index.end() || b == index.end() ? 0 : intersect(a->second, b->second);
}
KEPT void serve() {
  for (;;) {
    Index index;
    for (unsigned number = 0; number < 2500; number++) add_document(index, number);
    for (int query = 0; query < 60000; query++) answer_query(index);
    rest(120 + int(80 * std::sin(seconds() / 9)));
  }
}
}

namespace thumbnails {
using Picture = std::vector<float>;
KEPT Picture decode(int side) { Picture picture(side * side); for (float& pixel : picture) pixel = std::sqrt(float(random_number() % 65536)); return picture; }
KEPT Picture blur(const Picture& from, int side) {
  Picture to(from);
  for (int y = 1; y < side - 1; y++) for (int x = 1; x < side - 1; x++) to[y * side + x] = (from[y * side + x - 1] + from[y * side + x] + from[y * side + x + 1] + from[(y - 1) * side + x] + from[(y + 1) * side + x]) / 5;
  return to;
}
KEPT Picture scale_down(const Picture& from, int side) {
  Picture to;
  for (int y = 0; y < side; y += 4) for (int x = 0; x < side; x += 4) to.push_back(std::pow(from[y * side + x], 1.1f));
  return to;
}
KEPT void work() {
  for (;;) {
    const Picture picture = decode(512);
    scale_down(blur(blur(picture, 512), 512), 512);
    rest(std::fmod(seconds(), 40) < 12 ? 10 : 90);
  }
}
}

int main(int count, char** words) {
  const std::string path = words[0], name = path.substr(path.rfind('/') + 1);
  if (name == "storefront") storefront::handle_requests(count > 1 ? std::atof(words[1]) : 1e9);
  if (name == "search") search::serve();
  std::thread other(thumbnails::work);
  pthread_setname_np(other.native_handle(), "scaler");
  thumbnails::work();
}
