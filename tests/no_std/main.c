int overlane_no_std_proof(void);

int main(void) {
    return overlane_no_std_proof() == 1 ? 0 : 1;
}
