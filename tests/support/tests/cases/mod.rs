use support::println;

support::boot_tests! { it_boots }

fn it_boots() {
    println!("hello");
}
