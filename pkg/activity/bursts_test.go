package activity

import (
	"testing"
	"time"
)

func TestBursts(t *testing.T) {
	b := New()
	told := b.Subscribe()
	other := b.Subscribe()
	now := int64(time.Hour)
	requests := func(n int, apart time.Duration) (bursts int) {
		for range n {
			now += int64(apart)
			b.request(now)
			select {
			case <-told:
				bursts++
			default:
			}
		}
		return bursts
	}
	if n := requests(100, moment/4); n != 0 {
		t.Errorf("%d bursts of a request every now and then", n)
	}
	now += int64(time.Minute)
	if n := requests(many-1, time.Millisecond); n != 0 {
		t.Error("too few requests are a burst")
	}
	if n := requests(1, time.Millisecond); n != 1 {
		t.Error("many requests within a moment are none")
	}
	if n := requests(int(2*again/time.Millisecond), time.Millisecond); n < 1 || n > 2 {
		t.Errorf("told %d times in two seconds of a burst that goes on", n)
	}
	if len(other) != 1 {
		t.Error("who does not listen is not told, or holds the others up")
	}
	if (*Bursts)(nil).Subscribe() != nil {
		t.Error("where nothing is counted there is something to hear")
	}
}
