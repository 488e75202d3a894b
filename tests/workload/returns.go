// A program of Go whose functions return at several places, and grow their stacks, which then move.
// `returns N`: N rounds.
package main

import (
	"fmt"
	"os"
	"strconv"
)

type shop struct{ sold int }

// Returns at three places.
//
//go:noinline
func sign(n int) int {
	if n < 0 {
		return -1
	}
	if n == 0 {
		return 0
	}
	return 1
}

//go:noinline
func (s *shop) sell(n int) int {
	s.sold += n
	return s.sold
}

// Needs ever more stack.
//
//go:noinline
func deep(n int) int {
	var room [512]byte
	room[n%512] = byte(n)
	if n == 0 {
		return int(room[0])
	}
	return deep(n-1) + int(room[n%512])&1
}

func main() {
	rounds := 1
	if len(os.Args) > 1 {
		rounds, _ = strconv.Atoi(os.Args[1])
	}
	s := &shop{}
	sum := 0
	for i := 0; i < rounds; i++ {
		sum += sign(i%3-1) + s.sell(2)
		done := make(chan int)
		// A new goroutine has a small stack.
		go func() { done <- deep(200) }()
		sum += <-done
	}
	fmt.Println(sum)
}
