// The program and the library of the recorded machines, to be probed by tests
// that look only at the files. Built once, by
//   g++ -O1 -fno-inline -nostdlib -shared -fPIC -Wl,-z,noseparate-code \
//       -Wl,-soname,libshop.so.1 -o debian/usr/lib/x86_64-linux-gnu/libshop.so.1 shop.cc
//   g++ -O1 -fno-inline -nostdlib -nostartfiles -pie -fPIE -Wl,-z,noseparate-code \
//       -Wl,-e,main -o debian/usr/bin/shop shop.cc
namespace shop {
struct Cart {
    int total;
    int put(int item);
};
int price(int item) { return item * 3; }
int price(double weight) { return static_cast<int>(weight * 7); }
int Cart::put(int item) { return total += price(item); }
}

extern "C" {
int shop_open(const char *name, int flags) { return name[0] + flags; }
int shop_sell(int item, double weight) { return shop::price(item) + shop::price(weight); }
int shop_close(int shop) { return -shop; }
int main() {
    shop::Cart cart{shop_open("corner", 1)};
    return cart.put(shop_sell(2, 0.5)) + shop_close(1);
}
}
